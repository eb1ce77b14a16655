using System.Diagnostics;
using Pvmmap.Cli;
using Pvmmap.Cli.Demo;

namespace Pvmmap.Bench;

/// <summary>
/// A process hands its memory over to another one: a push with PVMMAP_MOVE beside process_vm_writev() of the same pages into fresh memory of the same
/// target, round by round. Every byte is checked in the target in every round.
/// </summary>
internal sealed class MoveBenchmark(bool full) : IBenchmark
{
    private const ulong MiB = 1UL << 20, GiB = 1UL << 30;
    private const ulong PeakRoom = 16 * MiB;
    private const double TimesShorter = 300, TimesOfFour = 4;
    private const int LeastRounds = 2;
    /// <summary>The background fill takes what is in memory first, so that it comes to these only long after the call.</summary>
    private const ulong SwappedOut = 256 * MiB;
    /// <summary>For the runtimes of three processes, and everybody else on the machine.</summary>
    private const ulong Headroom = 512 * MiB;

    private readonly Configuration
        _small = new("1 GiB in 4 KiB pages", GiB, PageKind.Small, full ? 15 : 7),
        _large = new("4 GiB in 4 KiB pages", 4 * GiB, PageKind.Small, full ? 3 : 1),
        _huge = new("1 GiB in huge pages", GiB, PageKind.Huge, full ? 7 : 5);

    /// <summary>For all rounds of one configuration; enough for all of them, but on a slow machine.</summary>
    private readonly TimeSpan? _time = full ? null : TimeSpan.FromSeconds(20);

    private readonly List<Series> _series = [];
    private readonly List<string> _notes = [];
    private ulong _seed;

    public string Name => "move";

    public string Description => "hand-over with PVMMAP_MOVE beside process_vm_writev()";

    public BenchReport Run(Action<string> say, CancellationToken interrupted)
    {
        Medians? small = Measure(_small, say, interrupted);
        Medians? large = small is { } known && LeavesOut(_large, known) ? null : Measure(_large, say, interrupted);
        Medians? huge = Measure(_huge, say, interrupted);
        interrupted.ThrowIfCancellationRequested();
        say("peak memory, handed over");
        double? movePeak = Peak((source, target) => Move(source, target, _small));
        interrupted.ThrowIfCancellationRequested();
        say("peak memory, process_vm_writev()");
        double? writePeak = Peak((source, target) => Write(source, target, _small));
        interrupted.ThrowIfCancellationRequested();
        say("swapped-out pages");
        double? swappedIn = SwappedIn();
        string shorter = "call of process_vm_writev() / of PVMMAP_MOVE";
        return new BenchReport(Name, Description, DateOnly.FromDateTime(DateTime.UtcNow), MachineDescription.Here(), _series,
        [
            new($"{shorter}, {_small.Data}", small?.Write / small?.Move, FigureUnit.Times, AtLeast: TimesShorter),
            new($"{shorter}, {_large.Data}", large?.Write / large?.Move, FigureUnit.Times),
            new($"{shorter}, {_huge.Data}", huge?.Write / huge?.Move, FigureUnit.Times),
            new("call of PVMMAP_MOVE, 4 GiB / 1 GiB in 4 KiB pages", large?.Move / small?.Move, FigureUnit.Times, AtMost: TimesOfFour),
            new("peak memory of both above 1 GiB, PVMMAP_MOVE", movePeak - GiB, FigureUnit.Bytes, AtMost: PeakRoom),
            new("peak memory of both above 1 GiB, process_vm_writev()", writePeak - GiB, FigureUnit.Bytes),
            new($"pages read in from swap by the call, {Figures.Bytes(SwappedOut)} of 1 GiB swapped out", swappedIn, FigureUnit.Pages, AtMost: 0),
        ], _notes);
    }

    /// <summary>What would take too long on a machine as slow as this, going by what a round of <see cref="_small"/> took.</summary>
    private bool LeavesOut(Configuration configuration, Medians small)
    {
        TimeSpan all = small.Round * ((double)configuration.Length / _small.Length * (configuration.Rounds + 1));
        if (_time is null || all < 2 * _time) return false;
        _notes.Add($"{configuration.Data}: left out; it would take {Figures.Duration(all)} here. --full measures it.");
        return true;
    }

    private Medians? Measure(Configuration configuration, Action<string> say, CancellationToken interrupted)
    {
        ulong needed = (2 * configuration.Length) + Headroom, available = MemoryInfo.Read("MemAvailable");
        if (available < needed)
        {
            _notes.Add($"{configuration.Data}: left out; {Figures.Bytes(needed)} of free memory are needed, {Figures.Bytes(available)} are there.");
            return null;
        }

        List<TimeSpan> writes = [], calls = [], completes = [];
        using WorkerProcess source = new(), target = new();
        WarmUp(source, target);
        long start = Stopwatch.GetTimestamp();
        foreach (int round in Repetition.Rounds(configuration.Rounds, LeastRounds, _time))
        {
            interrupted.ThrowIfCancellationRequested();
            say($"{configuration.Data}, round {round} of {configuration.Rounds}");
            Fill(source, configuration);
            CheckKind(source, configuration);
            TimeSpan write = Write(source, target, configuration);
            Check(target);
            CallTimes push = Move(source, target, configuration);
            Check(target);
            target.Release();
            if (round == 0) continue;
            writes.Add(write);
            calls.Add(push.Call);
            completes.Add(push.Complete);
        }

        Spread written = Spread.Of(writes), moved = Spread.Of(calls);
        _series.Add(new Series(configuration.Data, "process_vm_writev()", "call", written));
        _series.Add(new Series(configuration.Data, "PVMMAP_MOVE", "call", moved));
        _series.Add(new Series(configuration.Data, "PVMMAP_MOVE", "call, then every page in place", Spread.Of(completes)));
        return new Medians(written.P50, moved.P50, Stopwatch.GetElapsedTime(start) / (written.Rounds + 1));
    }

    /// <summary>The most that source and target held together, with all that the kernel charges for them, from before the source was filled on.</summary>
    private double? Peak(Action<WorkerProcess, WorkerProcess> transfer)
    {
        using WorkerProcess source = new(), target = new();
        WarmUp(source, target);
        using MemoryCgroup? group = MemoryCgroup.TryCreate("bench");
        if (group is null)
        {
            _notes.Add("Peak memory: not measured, it takes root and a memory cgroup.");
            return null;
        }

        group.Enter(source.Pid);
        group.Enter(target.Pid);
        Fill(source, _small);
        transfer(source, target);
        Check(target);
        return group.Peak;
    }

    private double? SwappedIn()
    {
        using ZramSwap? swap = ZramSwap.TryCreate(2 * SwappedOut);
        if (swap is null)
        {
            _notes.Add("Swap: not measured, it takes root and a kernel with zram.");
            return null;
        }

        using WorkerProcess source = new(), target = new();
        WarmUp(source, target);
        Fill(source, _small);
        ulong swapped = source.PageOut(SwappedOut);
        if (swapped < SwappedOut * 9 / 10) throw new IOException($"bench: only {Figures.Bytes(swapped)} could be swapped out; is memory short?");
        CallTimes push = Move(source, target, _small);
        Check(target);
        return push.SwappedIn;
    }

    /// <summary>One small call of either kind: the code is compiled and in the caches.</summary>
    private void WarmUp(WorkerProcess source, WorkerProcess target)
    {
        var little = new Configuration("1 MiB", MiB, PageKind.Small, 1);
        Fill(source, little);
        Write(source, target, little);
        Check(target);
        Move(source, target, little);
        Check(target);
    }

    private void Fill(WorkerProcess source, Configuration data)
    {
        source.Map(data.Length, data.Kind);
        source.Stamp(++_seed);
    }

    private static CallTimes Move(WorkerProcess source, WorkerProcess target, Configuration data) =>
        source.Push(target, target.Reserve(data.Length), MmapFlags.Move | MmapFlags.Fixed);

    private static TimeSpan Write(WorkerProcess source, WorkerProcess target, Configuration data) =>
        source.WriteTo(target, target.Map(data.Length, data.Kind));

    private void Check(WorkerProcess target)
    {
        if (target.WrongPages(_seed) is > 0 and var wrong) throw new IOException($"bench: {wrong} pages of the target are not what the source had");
    }

    private static void CheckKind(WorkerProcess source, Configuration configuration)
    {
        double huge = (double)source.HugeBytes() / configuration.Length;
        if (configuration.Kind == PageKind.Huge ? huge > 0.9 : huge == 0) return;
        throw new IOException($"bench: {huge:P0} of what should be {configuration.Data} are in huge pages");
    }

    private sealed record Configuration(string Data, ulong Length, PageKind Kind, int Rounds);

    /// <param name="Write">The median call of process_vm_writev(), in microseconds.</param>
    /// <param name="Move">The median call of PVMMAP_MOVE, in microseconds.</param>
    /// <param name="Round">What a round took on average, with all that is not measured.</param>
    private sealed record Medians(double Write, double Move, TimeSpan Round);
}
