namespace Pvmmap.Bench;

/// <summary>
/// What the first call in a process costs, and the thousandth: with the compiler in the process (JIT) and without (NativeAOT). Not with BenchmarkDotNet,
/// which calls the same thing over and over in one process: a first call takes a new process each, and the ways have to take turns.
/// </summary>
internal sealed class StartupBenchmark : IBenchmark
{
    private const ulong Length = 2UL << 20;
    private const int Rounds = 15, Many = 1000, Last = 50;
    private const string Data = "2 MiB in 4 KiB pages", Jit = "JIT", Aot = "NativeAOT";
    private const string ToMain = "process start to the first line, nothing else done", ToFirst = "process start to the end of the first call", First = "first call",
        Second = "second call", Thousandth = "calls 951 to 1000", Allocated = "allocated by";

    public string Name => "startup";

    public string Description => "the first call in a process and the thousandth, JIT and NativeAOT";

    public BenchReport Run(Action<string> say, CancellationToken interrupted)
    {
        Measurements measured = new(Data) { Counted = true };
        List<Finding> findings = [];
        List<string> notes = [];
        if (StartupApp.Jitted is not { } jitted || StartupApp.Compiled is not { } compiled) notes.Add("Not measured: the programs were not given (--startup-app, --startup-app-aot).");
        else
        {
            (string Way, string Program)[] ways = [(Jit, jitted), (Aot, compiled)];
            using WorkerProcess source = new();
            ulong address = source.Map(Length, PageKind.Small);
            source.Stamp(1);
            // The first round is not counted: it finds the programs.
            for (int round = 0; round <= Rounds; round++)
            {
                interrupted.ThrowIfCancellationRequested();
                say($"first calls, round {round} of {Rounds}");
                measured.Counted = round > 0;
                foreach ((string way, string program) in ways)
                {
                    measured.Add(way, ToMain, StartupApp.Bare(program));
                    StartupApp.Result result = StartupApp.Calls(program, source, address, Length, 2);
                    measured.Add(way, ToFirst, result.Calls[0].Since);
                    measured.Add(way, First, result.Calls[0].Time);
                    measured.Add(way, Second, result.Calls[1].Time);
                    measured.Add(way, $"{Allocated} the {First}", FigureUnit.Bytes, result.Calls[0].Allocated);
                }
            }

            foreach ((string way, string program) in ways)
            {
                interrupted.ThrowIfCancellationRequested();
                say($"{way}, {Many} calls");
                foreach (StartupApp.Call call in StartupApp.Calls(program, source, address, Length, Many).Calls[^Last..])
                {
                    measured.Add(way, Thousandth, call.Time);
                    measured.Add(way, $"{Allocated} {Thousandth}, each", FigureUnit.Bytes, call.Allocated);
                }
            }

            foreach ((string way, _) in ways)
            {
                findings.Add(new($"process start to the end of the first call / to the first line, {way}", measured.Median(way, ToFirst) / measured.Median(way, ToMain), FigureUnit.Times));
                findings.Add(new($"first call / calls 951 to 1000, {way}", measured.Median(way, First) / measured.Median(way, Thousandth), FigureUnit.Times));
            }

            findings.Add(new("first call, JIT / NativeAOT", measured.Median(Jit, First) / measured.Median(Aot, First), FigureUnit.Times));
            findings.Add(new("calls 951 to 1000, JIT / NativeAOT", measured.Median(Jit, Thousandth) / measured.Median(Aot, Thousandth), FigureUnit.Times));
        }

        notes.Add("The program pulls the range out of another process. What does nothing else is the same program, told to touch nothing of the library; so the library's start-up cost is the difference between the two. Each round of first calls has a new process for each figure.");
        return new BenchReport(Name, Description, DateOnly.FromDateTime(DateTime.UtcNow), MachineDescription.Here(), [.. measured.Series], findings, notes, [.. measured.Amounts]);
    }
}
