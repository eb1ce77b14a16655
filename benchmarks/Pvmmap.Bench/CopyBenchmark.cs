using System.Diagnostics;
using System.Globalization;
using System.IO.Pipes;
using Pvmmap.Cli;
using Pvmmap.Cli.Demo;

namespace Pvmmap.Bench;

/// <summary>
/// A copy by push, by pull and by a third process, and a move, beside what a user would take instead: process_vm_writev(), process_vm_readv(), a
/// pipe, a memfd, and a fork() of the source, which is what a copy's call must at least cost. All of them in each round, one after the other; every
/// byte is checked in the target each time. A C program that does nothing but make a call's system calls says what those cost alone. Then faults beside a bare userfaultfd handler, and what the source's writes cost after the call.
/// </summary>
internal sealed class CopyBenchmark(bool full) : IBenchmark
{
    private const ulong KiB = 1UL << 10, MiB = 1UL << 20, GiB = 1UL << 30;
    private const double TimesFork = 1.3, TimesBareHandler = 1.5, TimesSmallPages = 1.5, TimesHugePages = 1.0;
    private const double Millisecond = 1000, Second = 1e6;
    private const int AccountRounds = 3, LeastRounds = 5;
    /// <summary>Farther apart than what is delivered along with a page, so that each access is a fault.</summary>
    private const ulong Stride = 256 * KiB;
    private const string Fork = "fork() of the source", Write = "process_vm_writev()", Read = "process_vm_readv()", Pipe = "a pipe",
        SharedFile = "memfd + MAP_PRIVATE", Push = "push", Pull = "pull", Third = "third party", Populated = "third party, PVMMAP_POPULATE", Move = "push, PVMMAP_MOVE";
    private const string ForkOfSource = "fork() of the C source";
    private const string Bare = "bare userfaultfd handler", Lazy = "process_vm_mmap, PVMMAP_LAZY";
    private const string Together = "handler on the same processor", Apart = "handler anywhere";
    private const string Call = "call", Whole = "call, then every page in place", Filling = "from the end of the call to every page in place",
        HugeFilling = "from the end of the call to huge pages in place, made by UseHugePages()", SourceStop = "source stopped", TargetStop = "target stopped";
    private const string PeakAbove = "peak memory above the source's", SwappedIn = "pages swapped in", SourceFaults = "page faults of the source",
        TargetFaults = "page faults of the target", TargetTables = "page tables of the target (VmPTE)";

    private static readonly Data[] s_small = [new("64 MiB in 4 KiB pages", 64 * MiB, PageKind.Small, 15), new("64 MiB in huge pages", 64 * MiB, PageKind.Huge, 15)];

    private static readonly Data[] s_large = [new("1 GiB in 4 KiB pages", GiB, PageKind.Small, 5, 11), new("1 GiB in huge pages", GiB, PageKind.Huge, 5, 11)];
    private static readonly Data[] s_largest = [new("4 GiB in 4 KiB pages", 4 * GiB, PageKind.Small, 3, 6), new("4 GiB in huge pages", 4 * GiB, PageKind.Huge, 3, 6)];

    /// <summary>What a call of a millisecond or two takes is another thing in a busy minute of the machine than in a quiet one: with time enough it is measured in three, far apart.</summary>
    private readonly Data[] _order = full ? [.. s_small, .. s_large, .. s_small, .. s_largest, .. s_small] : s_small;

    /// <summary>For all rounds of one kind of data; enough for all of them, but on a slow machine.</summary>
    private readonly TimeSpan? _time = full ? null : TimeSpan.FromSeconds(30);

    private readonly List<Series> _series = [];
    private readonly List<Amount> _amounts = [];
    private readonly List<Finding> _findings = [];
    private readonly List<string> _notes =
    [
        "A call beside fork(), and a fault beside the bare handler's: each beside the one that was measured right before it; the median of these.",
        "memfd + MAP_PRIVATE: the source's memory has to be copied into the file first, and stays twice; the target then shares pages of a file, which are neither anonymous nor its own before it writes to them.",
    ];

    private static readonly string[] s_ways = [Push, Pull, Third];

    /// <summary>The system calls of a call in C, and how many of them.</summary>
    private static readonly (string Way, CallInC Extent)[] s_inC = [.. s_ways.SelectMany(way => Enum.GetValues<CallInC>().Select(extent => (way, extent)))];

    private ulong _seed;

    public string Name => "copy";

    public string Description => "a copy beside fork(), process_vm_writev(), process_vm_readv(), a pipe, a memfd, and a bare userfaultfd handler";

    public BenchReport Run(Action<string> say, CancellationToken interrupted)
    {
        Dictionary<Data, Measurements> taken = [];
        foreach (Data data in _order)
        {
            if (!taken.TryGetValue(data, out Measurements? times)) taken.Add(data, times = new Measurements(data.Name, data.Length));
            Measure(data, times, say, interrupted);
        }

        foreach ((Data data, Measurements times) in taken) Conclude(data, times);
        MeasureFaults(say, interrupted);
        return new BenchReport(Name, Description, DateOnly.FromDateTime(DateTime.UtcNow), MachineDescription.Here(), _series, _findings, _notes, _amounts);
    }

    private void Measure(Data data, Measurements times, Action<string> say, CancellationToken interrupted)
    {
        ulong needed = (3 * data.Length) + (GiB / 2), available = MemoryInfo.Read("MemAvailable");
        if (available < needed)
        {
            _notes.Add($"{data.Name}: left out once; {Figures.Bytes(needed)} of free memory are needed, {Figures.Bytes(available)} are there.");
            return;
        }

        using WorkerProcess source = new(), target = new();
        foreach (int round in Repetition.Rounds(data.Rounds, LeastRounds, _time))
        {
            interrupted.ThrowIfCancellationRequested();
            say($"{data.Name}, round {round} of {data.Rounds}");
            times.Counted = round > 0;
            Round(source, target, data, times);
            foreach ((string way, CallInC extent) in s_inC) MeasureInC(way, extent);
        }

        for (int round = 1; round <= data.CallRounds; round++)
        {
            interrupted.ThrowIfCancellationRequested();
            say($"{data.Name}, nothing but the calls, round {round} of {data.CallRounds}");
            ulong from = Fill(source, data);
            source.Push(target, target.Reserve(data.Length), MmapFlags.Fixed);
            Check(target);
            Calls(source, target, data, times, from, (_, step) => step(), andFills: false);
            target.Release();
            foreach (string way in s_ways) MeasureInC(way, CallInC.Complete);
        }

        if (!times.Amounts.Any()) Account(source, target, data, times, say, interrupted);

        void MeasureInC(string way, CallInC extent)
        {
            if (BareProgram.Call.MeasureCall(way, data.Length, data.Kind, extent) is not { } inC) return;
            times.Add(InC(way, extent), ForkOfSource, inC.Fork);
            times.Add(InC(way, extent), Call, inC.Call);
            AddRatio(times, InC(way, extent), inC.Call, inC.Fork);
        }
    }

    private void Conclude(Data data, Measurements times)
    {
        if (!times.Series.Any()) return;
        _series.AddRange(times.Series);
        _amounts.AddRange(times.Amounts);
        _findings.AddRange(
        [
            .. s_ways.Select(way => new Finding(
                $"(call of {way} - 1 ms) / fork(), {data.Name}", times.RatioOrNull(way), FigureUnit.Times, AtMost: TimesFork)),
            .. s_inC.Select(c => InC(c.Way, c.Extent)).Select(inC => new Finding(
                $"(call of {inC} - 1 ms) / its fork(), {data.Name}", times.RatioOrNull(inC), FigureUnit.Times)),
            .. data.Kind == PageKind.Small ? (IEnumerable<Finding>)
            [
                new($"rate of the fill / of process_vm_writev(), {data.Name}", times.Median(Write, Call) / times.Median(Third, Filling), FigureUnit.Times, AtLeast: TimesSmallPages),
            ] :
            [
                new($"rate of the fill, huge pages kept (PVMMAP_POPULATE), / of process_vm_writev() into huge pages, {data.Name}",
                    times.Median(Write, Call) / (times.Median(Populated, Call) - times.Median(Third, Call)), FigureUnit.Times, AtLeast: TimesHugePages),
                new($"call of process_vm_writev() into huge pages / of third party with PVMMAP_POPULATE, {data.Name}", times.Median(Write, Call) / times.Median(Populated, Call), FigureUnit.Times),
                new($"rate of the fill and of UseHugePages() behind it / of process_vm_writev() into huge pages, {data.Name}",
                    times.Median(Write, Call) / times.Median(Third, HugeFilling), FigureUnit.Times),
            ],
            new($"call of process_vm_writev() / of push, {data.Name}", times.Median(Write, Call) / times.Median(Push, Call), FigureUnit.Times),
            new($"rate of the fill of third party, {data.Name}", data.Length / times.Median(Third, Filling) * Second, FigureUnit.BytesPerSecond),
            new($"rate of process_vm_writev(), {data.Name}", data.Length / times.Median(Write, Call) * Second, FigureUnit.BytesPerSecond),
        ]);
    }

    /// <summary>
    /// Rounds of their own, in which source and target are in a memory cgroup and what each way costs other than time is counted. They are not timed:
    /// it takes a few reads of files before and after.
    /// </summary>
    private void Account(WorkerProcess source, WorkerProcess target, Data data, Measurements times, Action<string> say, CancellationToken interrupted)
    {
        using MemoryCgroup? group = MemoryCgroup.TryCreate("bench");
        if (group is null) _notes.Add($"{data.Name}: peak memory was not measured, it takes root and a memory cgroup.");
        group?.Enter(source.Pid);
        group?.Enter(target.Pid);
        Measurements untimed = new(data.Name);
        for (int round = 1; round <= AccountRounds; round++)
        {
            interrupted.ThrowIfCancellationRequested();
            say($"{data.Name}, what it costs other than time, round {round} of {AccountRounds}");
            Round(source, target, data, untimed, (way, step) =>
            {
                ProcessAccounts sourceBefore = ProcessAccounts.Of(source.Pid), targetBefore = ProcessAccounts.Of(target.Pid);
                ulong swappedIn = SwapTraffic.PagesIn(), before = group?.Usage ?? 0;
                bool countsPeak = group?.ResetPeak() ?? false;
                step();
                if (countsPeak) times.Add(way, PeakAbove, FigureUnit.Bytes, (double)group!.Peak - before);
                times.Add(way, SwappedIn, FigureUnit.Pages, SwapTraffic.PagesIn() - swappedIn);
                ProcessAccounts sourceAfter = ProcessAccounts.Of(source.Pid), targetAfter = ProcessAccounts.Of(target.Pid);
                times.Add(way, SourceFaults, FigureUnit.Count, (double)sourceAfter.Faults - sourceBefore.Faults);
                times.Add(way, TargetFaults, FigureUnit.Count, (double)targetAfter.Faults - targetBefore.Faults);
                times.Add(way, TargetTables, FigureUnit.Bytes, (double)targetAfter.PageTables - targetBefore.PageTables);
            });
        }
    }

    private static string InC(string way, CallInC extent) => $"{way}, its system calls in C{(extent == CallInC.Bare ? "" : $", {BareProgram.Name(extent)}")}";

    /// <summary>Each way once; around each of them what one wants to do before and after.</summary>
    private void Round(WorkerProcess source, WorkerProcess target, Data data, Measurements times, Action<string, Action>? around = null)
    {
        ulong from = Fill(source, data), at = 0;
        around ??= (_, step) => step();
        at = target.Map(data.Length, data.Kind);
        around(Write, () => times.Add(Write, Call, source.WriteTo(target, at)));
        Check(target);
        target.Map(data.Length, data.Kind);
        around(Read, () => times.Add(Read, Call, target.ReadFrom(source, from)));
        Check(target);
        target.Map(data.Length, data.Kind);
        around(Pipe, () => times.Add(Pipe, Call, ThroughPipe(source, target)));
        Check(target);
        target.Release();
        around(SharedFile, () =>
        {
            (TimeSpan written, int file) = source.WriteToMemfd();
            times.Add(SharedFile, Call, written + target.MapMemfd(source, file, data.Length));
        });
        Check(target);
        source.CloseMemfd();

        Calls(source, target, data, times, from, around, andFills: true);
        if (data.Kind == PageKind.Huge)
        {
            at = target.Map(data.Length, data.Kind);
            around(Populated, () => Add(times, Populated, CallTimes.Of(
                () => ProcessVm.MmapBetween(source.Pid, target.Pid, from, data.Length, at, MmapFlags.Fixed | MmapFlags.Populate))));
            if (target.HugeBytes() is var kept && kept < data.Length * 9 / 10) throw new IOException($"bench: only {Figures.Bytes(kept)} are in huge pages");
            Check(target);
        }
        at = target.Reserve(data.Length);
        // Last: it empties the source.
        around(Move, () => Add(times, Move, source.Push(target, at, MmapFlags.Fixed | MmapFlags.Move)));
        Check(target);
        target.Release();
    }

    /// <summary>The calls that copy, each once and behind a fork(). The target has the content already, and has it then.</summary>
    private void Calls(WorkerProcess source, WorkerProcess target, Data data, Measurements times, ulong from, Action<string, Action> around, bool andFills)
    {
        TimeSpan fork = MeasureFork();
        ulong at = target.Reserve(data.Length);
        around(Push, () => AddCopy(Push, source.Push(target, at, MmapFlags.Fixed)));
        Check(target);
        fork = MeasureFork();
        target.Reserve(data.Length);
        around(Pull, () => AddCopy(Pull, target.Pull(source, from, MmapFlags.Fixed)));
        Check(target);
        fork = MeasureFork();
        at = target.Reserve(data.Length);
        TimeSpan joining = default;
        around(Third, () =>
        {
            CallTimes third = CallTimes.Of(() => ProcessVm.MmapBetween(source.Pid, target.Pid, from, data.Length, at, MmapFlags.Fixed), fill =>
            {
                if (!andFills || data.Kind != PageKind.Huge) return;
                long start = Stopwatch.GetTimestamp();
                if (fill.UseHugePages() is var huge && huge < data.Length * 9 / 10) throw new IOException($"bench: only {Figures.Bytes(huge)} are in huge pages");
                joining = Stopwatch.GetElapsedTime(start);
            });
            AddCopy(Third, third);
            if (andFills && data.Kind == PageKind.Huge) times.Add(Third, HugeFilling, third.Complete - third.Call + joining);
        });
        Check(target);

        // A fork() finds what a call finds: the target has been at work, with the caches to itself. Directly behind the filling or another fork() the
        // source's page tables are in them, and it takes two thirds of the time.
        TimeSpan MeasureFork()
        {
            TimeSpan took = default;
            around(Fork, () => times.Add(Fork, Call, took = source.Fork()));
            Check(target);
            return took;
        }

        void AddCopy(string way, CallTimes measured)
        {
            Add(times, way, measured, andFills);
            AddRatio(times, way, measured.Call, fork);
        }
    }

    private static void AddRatio(Measurements times, string way, TimeSpan call, TimeSpan fork) =>
        times.AddRatio(way, Math.Max(0, call.TotalMicroseconds - Millisecond) / fork.TotalMicroseconds);

    private static void Add(Measurements times, string way, CallTimes measured, bool andFill = true)
    {
        times.Add(way, Call, measured.Call);
        if (andFill)
        {
            times.Add(way, Whole, measured.Complete);
            times.Add(way, Filling, measured.Complete - measured.Call);
        }

        if (way is Pull or Third or Populated) times.Add(way, SourceStop, measured.SourceStop);
        if (way is Push or Third or Populated or Move) times.Add(way, TargetStop, measured.TargetStop);
    }

    private static TimeSpan ThroughPipe(WorkerProcess source, WorkerProcess target)
    {
        using var pipe = new AnonymousPipeServerStream(PipeDirection.In);
        int reading = (int)pipe.SafePipeHandle.DangerousGetHandle(), writing = int.Parse(pipe.GetClientHandleAsString(), CultureInfo.InvariantCulture);
        long start = Stopwatch.GetTimestamp();
        Task<TimeSpan> read = Task.Run(() => target.ReadFromPipe(reading));
        source.WriteToPipe(writing);
        read.GetAwaiter().GetResult();
        return Stopwatch.GetElapsedTime(start);
    }

    /// <summary>
    /// A fault of the target while nothing else happens (PVMMAP_LAZY) and while the fill goes on, beside one that a bare handler answers; and a
    /// write of the source to a page that the holder still has, beside one to a page that a forked child has.
    /// </summary>
    private void MeasureFaults(Action<string> say, CancellationToken interrupted)
    {
        var data = new Data("256 MiB in 4 KiB pages", 256 * MiB, PageKind.Small, 15);
        using WorkerProcess source = new(), target = new();
        Measurements times = new(data.Name);
        foreach (int round in Repetition.Rounds(data.Rounds, LeastRounds, _time))
        {
            interrupted.ThrowIfCancellationRequested();
            say($"faults, round {round} of {data.Rounds}");
            times.Counted = round > 0;
            ulong from = Fill(source, data);
            foreach ((bool together, bool write) in ((bool, bool)[])[(true, false), (true, true), (false, false), (false, true)])
            {
                string access = $"{(write ? "write" : "read")}, {(together ? Together : Apart)}";
                Latency? bare = BareProgram.Handler.MeasureFaults(data.Length, Stride, write, together);
                Latency lazy = During(MmapFlags.Lazy, together, () => target.Touch(Stride, write));
                if (bare is { } floor)
                {
                    times.Add(Bare, access, floor);
                    times.AddRatio(access, (double)lazy.P50 / floor.P50);
                }

                times.Add(Lazy, access, lazy);
                times.Add("process_vm_mmap, while it fills", access, During(MmapFlags.None, together, () => target.Touch(Stride, write)));
            }

            times.Add("no call", "write by the source", source.Touch(Stride, write: true));
            source.HoldFork();
            times.Add(Fork, "write by the source", source.Touch(Stride, write: true));
            source.EndFork();
            times.Add(Lazy, "write by the source", During(MmapFlags.Lazy, together: false, () => source.Touch(Stride, write: true)));

            Latency During(MmapFlags flags, bool together, Func<Latency> touch)
            {
                using Duplication fill =
                    ProcessVm.MmapBetween(source.Pid, target.Pid, from, data.Length, target.Reserve(data.Length), MmapFlags.Fixed | flags).Duplication;
                if (together)
                {
                    Keep(fill.HolderPid, 1);
                    Keep(target.Pid, 1);
                }

                Latency latency = touch();
                if (together) Keep(target.Pid, (1 << Environment.ProcessorCount) - 1);
                fill.Finish();
                fill.Wait(Timeout.InfiniteTimeSpan);
                if (fill.State != DuplicationState.Complete) throw new IOException($"bench: the fill ended as {fill.State}");
                return latency;
            }
        }

        foreach (string part in (string[])["p50", "p99"])
        {
            string what = $"write by the source, {part}";
            _findings.Add(new($"{what}, while the holder has the page / a forked child", times.MedianOrNull(Lazy, what) / times.MedianOrNull(Fork, what), FigureUnit.Times));
        }

        if (!BareProgram.Handler.IsHere) _notes.Add("The bare userfaultfd handler was not measured: the program was not given (--bare-handler).");
        _series.AddRange(times.Series);
        foreach (string access in (string[])["read", "write"])
        {
            foreach (string where in (string[])[Together, Apart])
            {
                string what = $"{access}, {where}";
                _findings.Add(new($"fault, {what}, p50 / bare handler's", times.RatioOrNull(what), FigureUnit.Times,
                    AtMost: where == Together ? TimesBareHandler : null));
            }
        }

        _notes.Add($"Faults: {Together} of the machine, nothing but the handlers differs; {Apart}, most of the time is the wake-up of another processor, if that sleeps.");

        // The first thread of the process: the one that faults, and the holder's only one.
        static void Keep(int pid, nint processors)
        {
            using Process process = Process.GetProcessById(pid);
            process.ProcessorAffinity = processors;
        }
    }

    private ulong Fill(WorkerProcess source, Data data)
    {
        ulong at = source.Map(data.Length, data.Kind);
        source.Stamp(++_seed);
        double huge = (double)source.HugeBytes() / data.Length;
        if (data.Kind == PageKind.Huge ? huge < 0.9 : huge > 0) throw new IOException($"bench: {huge:P0} of what should be {data.Name} are in huge pages");
        return at;
    }

    private void Check(WorkerProcess target)
    {
        if (target.WrongPages(_seed) is > 0 and var wrong) throw new IOException($"bench: {wrong} pages of the target are not what the source had");
    }

    /// <param name="Name">What it is called.</param>
    /// <param name="Length">Bytes.</param>
    /// <param name="Kind">Its pages.</param>
    /// <param name="Rounds">Of everything.</param>
    /// <param name="CallRounds">Of the calls alone, besides: of few, the median says little of some milliseconds.</param>
    private sealed record Data(string Name, ulong Length, PageKind Kind, int Rounds, int CallRounds = 0);
}
