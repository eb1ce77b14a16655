using System.Diagnostics;
using Pvmmap.Cli;
using Pvmmap.Cli.Demo;

namespace Pvmmap.Bench;

/// <summary>
/// What the system call was proposed for: a page server receives n pages and gets them into a restored process, both in a memory cgroup with room for
/// 1.25 n, and what does not fit is swapped to compressed memory. All ways in each round, one after the other; every byte is checked in the target.
/// </summary>
internal sealed class PressureBenchmark(bool full) : IBenchmark
{
    public const string InPlace = "received and in place", Read = "the same, and every byte read by the target", SwappedIn = "pages swapped in",
        SwappedOut = "pages swapped out", Peak = "peak in memory", PeakWithSwap = "peak in memory and swap", Killed = "processes killed for lack of memory";

    private const ulong KiB = 1UL << 10, MiB = 1UL << 20, GiB = 1UL << 30;
    private const ulong Piece = 128 * KiB;
    private const ulong PeakRoom = 16 * MiB;
    private const int LeastRounds = 1;
    private const string FullBuffer = "process_vm_writev(), buffer for all", SmallBuffer = "process_vm_writev(), buffer of 128 KiB",
        SharedFile = "memfd + MAP_PRIVATE", Copy = "process_vm_mmap(), munmap()", Move = "process_vm_mmap(), PVMMAP_MOVE";

    private static readonly ulong[] s_lengths = [32 * MiB, 64 * MiB, 128 * MiB, 256 * MiB, 512 * MiB];

    private readonly int _rounds = full ? 7 : 3;
    /// <summary>For all rounds of one length; enough for all of them, but on a slow machine.</summary>
    private readonly TimeSpan? _time = full ? null : TimeSpan.FromSeconds(15);
    private readonly List<Series> _series = [];
    private readonly List<Amount> _amounts = [];
    private readonly List<Finding> _findings = [];
    private readonly List<string> _notes =
    [
        "Received means made up by the page server, page by page. What was received into a buffer for all is unmapped when it has been passed on. A third of each page is random; zram keeps it compressed.",
        "Where a process was killed for lack of memory, the round has no times. Swapped pages are the whole machine's. Each way starts with nothing in memory and nothing swapped out.",
        "memfd + MAP_PRIVATE: what the target has then are pages of a file. They are neither anonymous nor its own before it writes to them, and a write takes another page.",
    ];

    private ulong _seed;

    public string Name => "pressure";

    public string Description => "a migration of n pages into a memory cgroup with room for 1.25 n, and swap";

    public BenchReport Run(Action<string> say, CancellationToken interrupted)
    {
        ulong[] lengths = full ? [.. s_lengths, GiB] : s_lengths;
        // With what would not fit at all: the peak of the worst way.
        using ZramSwap? swap = ZramSwap.TryCreate(2 * lengths[^1]);
        if (swap is null) _notes.Add("Not measured: it takes root and a kernel with zram.");
        else
        {
            foreach (ulong length in lengths) Measure(length, say, interrupted);
        }

        return new BenchReport(Name, Description, DateOnly.FromDateTime(DateTime.UtcNow), MachineDescription.Here(), _series, _findings, _notes, _amounts);
    }

    private void Measure(ulong length, Action<string> say, CancellationToken interrupted)
    {
        string data = Figures.Bytes(length);
        using MemoryCgroup? group = MemoryCgroup.TryCreate("bench");
        if (group is null)
        {
            _notes.Add($"{data}: not measured, it takes root and a memory cgroup.");
            return;
        }

        Pair pair = new(group, ++_seed);
        try
        {
            ulong idle = group.Usage;
            group.Limit(idle + (length * 5 / 4));
            Measurements measured = new(data, length);
            foreach (int round in Repetition.Rounds(_rounds, LeastRounds, _time))
            {
                measured.Counted = round > 0;
                foreach (string way in s_ways)
                {
                    interrupted.ThrowIfCancellationRequested();
                    say($"{data}, {way}, round {round} of {_rounds}");
                    ulong kills = group.OutOfMemoryKills;
                    try
                    {
                        Once(way, pair, group, length, idle, measured);
                    }
                    catch (WorkerEndedException) when (group.OutOfMemoryKills > kills)
                    {
                        // The kernel gave up on swapping and killed one of the two: a result, too.
                        Pair next = new(group, ++_seed);
                        pair.Dispose();
                        pair = next;
                    }

                    measured.Add(way, Killed, FigureUnit.Count, group.OutOfMemoryKills - kills);
                }
            }

            Conclude(measured, data, length);
        }
        finally
        {
            pair.Dispose();
        }
    }

    private void Once(string way, Pair pair, MemoryCgroup group, ulong length, ulong idle, Measurements measured)
    {
        (WorkerProcess source, WorkerProcess target) = (pair.Source, pair.Target);
        bool countsPeak = group.ResetPeak();
        ulong swappedIn = SwapTraffic.PagesIn(), swappedOut = SwapTraffic.PagesOut();
        long start = Stopwatch.GetTimestamp();
        Transfer(way, source, target, length, ++_seed);
        TimeSpan inPlace = Stopwatch.GetElapsedTime(start);
        if (target.WrongMixed(_seed) is > 0 and var wrong) throw new IOException($"bench: {way}: {wrong} pages of the target are not what was received");
        measured.Add(way, InPlace, inPlace);
        measured.Add(way, Read, Stopwatch.GetElapsedTime(start));
        measured.Add(way, SwappedIn, FigureUnit.Pages, SwapTraffic.PagesIn() - swappedIn);
        measured.Add(way, SwappedOut, FigureUnit.Pages, SwapTraffic.PagesOut() - swappedOut);
        if (countsPeak) measured.Add(way, Peak, FigureUnit.Bytes, (double)group.Peak - idle);
        if (countsPeak && group.PeakWithSwap is { } both) measured.Add(way, PeakWithSwap, FigureUnit.Bytes, (double)both - idle);
        source.Release();
        target.Release();
    }

    private void Conclude(Measurements measured, string data, ulong length)
    {
        _series.AddRange(measured.Series);
        _amounts.AddRange(measured.Amounts);
        foreach (string ours in (string[])[Copy, Move])
        {
            foreach (string other in (string[])[FullBuffer, SmallBuffer, SharedFile])
                _findings.Add(new($"time to read by the target, {other} / {ours}, {data}", measured.MedianOrNull(other, Read) / measured.MedianOrNull(ours, Read), FigureUnit.Times));
        }

        _findings.Add(new($"peak in memory and swap above {data}, PVMMAP_MOVE", measured.MedianOrNull(Move, PeakWithSwap) - length, FigureUnit.Bytes, AtMost: PeakRoom));
    }

    private static readonly string[] s_ways = [FullBuffer, SmallBuffer, SharedFile, Copy, Move];

    /// <summary>From the first byte received until all is in the target.</summary>
    private static void Transfer(string way, WorkerProcess source, WorkerProcess target, ulong length, ulong seed)
    {
        switch (way)
        {
            case SmallBuffer:
                source.StreamTo(target, target.Map(length, PageKind.Small), length, Piece, seed);
                return;
            case SharedFile:
                target.MapMemfd(source, source.StreamToMemfd(length, Piece, seed), length);
                source.Release();
                return;
        }

        source.Map(length, PageKind.Small);
        source.StampMixed(seed);
        switch (way)
        {
            case FullBuffer:
                source.WriteTo(target, target.Map(length, PageKind.Small));
                source.Release();
                return;
            case Copy:
                source.PushAndRelease(target, target.Reserve(length), MmapFlags.Fixed);
                return;
            case Move:
                source.Push(target, target.Reserve(length), MmapFlags.Fixed | MmapFlags.Move);
                return;
        }
    }

    /// <summary>Page server and restored process, in the cgroup, both having done everything once.</summary>
    private sealed class Pair : IDisposable
    {
        public Pair(MemoryCgroup group, ulong seed)
        {
            group.Enter(Source.Pid);
            group.Enter(Target.Pid);
            foreach (string way in s_ways) Transfer(way, Source, Target, MiB, seed);
            Source.Release();
            Target.Release();
        }

        public WorkerProcess Source { get; } = new();

        public WorkerProcess Target { get; } = new();

        public void Dispose()
        {
            Source.Dispose();
            Target.Dispose();
        }
    }
}
