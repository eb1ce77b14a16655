using Pvmmap.Cli;

namespace Pvmmap.Bench;

/// <summary>
/// A small range of a large process beside the same range of a small process: the cost of a call follows the range, not the source. And small
/// ranges that are copied at once beside the same ranges delivered later.
/// </summary>
internal sealed class RangeBenchmark : IBenchmark
{
    private const ulong KiB = 1UL << 10, MiB = 1UL << 20, GiB = 1UL << 30;
    private const ulong Range = 64 * MiB, Large = 4 * GiB;
    private const double TimesOfSmall = 3;
    private const int Rounds = 15;

    private static readonly ulong[] s_small = [4 * KiB, 64 * KiB, 256 * KiB, 512 * KiB, 1 * MiB];

    private readonly List<Series> _series = [];
    private readonly List<string> _notes = [];
    private ulong _seed;

    public string Name => "range";

    public string Description => "64 MiB out of a process of 4 GiB beside 64 MiB out of one of 64 MiB";

    public BenchReport Run(Action<string> say, CancellationToken interrupted)
    {
        double? ratio = Measure(say, interrupted);
        return new BenchReport(Name, Description, DateOnly.FromDateTime(DateTime.UtcNow), MachineDescription.Here(), _series,
            [new("call, 64 MiB of 4 GiB / 64 MiB of 64 MiB", ratio, FigureUnit.Times, AtMost: TimesOfSmall)], _notes);
    }

    private double? Measure(Action<string> say, CancellationToken interrupted)
    {
        if (MemoryInfo.Read("MemAvailable") < Large + (GiB / 2))
        {
            _notes.Add($"Left out; {Figures.Bytes(Large + (GiB / 2))} of free memory are needed.");
            return null;
        }

        using WorkerProcess small = new(), large = new(), target = new();
        say("filling 4 GiB");
        ulong ofSmall = Fill(small, Range), ofLarge = Fill(large, Large) + (Large / 2);
        List<TimeSpan> smalls = [], larges = [];
        (List<TimeSpan> AtOnce, List<TimeSpan> Later)[] tiny = [.. s_small.Select(_ => (new List<TimeSpan>(), new List<TimeSpan>()))];
        for (int round = 0; round <= Rounds; round++)
        {
            interrupted.ThrowIfCancellationRequested();
            say($"round {round} of {Rounds}");
            TimeSpan one = Call(small, ofSmall, Range, target), other = Call(large, ofLarge, Range, target);
            foreach ((ulong length, (List<TimeSpan> atOnce, List<TimeSpan> later)) in s_small.Zip(tiny))
            {
                TimeSpan first = Call(large, ofLarge, length, target, MmapFlags.Populate), second = Call(large, ofLarge, length, target, MmapFlags.Lazy);
                if (round == 0) continue;
                atOnce.Add(first);
                later.Add(second);
            }

            if (round == 0) continue;
            smalls.Add(one);
            larges.Add(other);
        }

        foreach ((ulong length, (List<TimeSpan> atOnce, List<TimeSpan> later)) in s_small.Zip(tiny))
        {
            _series.Add(new Series($"{Figures.Bytes(length)} of 4 GiB", "process_vm_mmap, PVMMAP_POPULATE", "call", Spread.Of(atOnce)));
            _series.Add(new Series($"{Figures.Bytes(length)} of 4 GiB", "process_vm_mmap, PVMMAP_LAZY", "call", Spread.Of(later)));
        }

        Spread ofSmallOne = Spread.Of(smalls), ofLargeOne = Spread.Of(larges);
        _series.Add(new Series("64 MiB of 64 MiB", "process_vm_mmap", "call", ofSmallOne));
        _series.Add(new Series("64 MiB of 4 GiB", "process_vm_mmap", "call", ofLargeOne));
        return ofLargeOne.P50 / ofSmallOne.P50;
    }

    private ulong Fill(WorkerProcess source, ulong length)
    {
        ulong at = source.Map(length, PageKind.Small);
        source.Stamp(++_seed);
        return at;
    }

    private static TimeSpan Call(WorkerProcess source, ulong address, ulong length, WorkerProcess target, MmapFlags fill = MmapFlags.None)
    {
        MmapResult result = ProcessVm.MmapBetween(source.Pid, target.Pid, address, length, target.Reserve(length), MmapFlags.Fixed | fill);
        using (result.Duplication)
        {
            result.Duplication.Finish();
            result.Duplication.Wait(TimeSpan.FromMinutes(1));
            if (result.Duplication.State != DuplicationState.Complete) throw new IOException($"bench: the fill ended as {result.Duplication.State}");
        }

        target.Release();
        return result.CallTime;
    }
}
