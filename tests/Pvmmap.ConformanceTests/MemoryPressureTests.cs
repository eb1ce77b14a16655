using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>Source and target in a memory cgroup that cannot hold both, and the kernel's killer of last resort.</summary>
public sealed class MemoryPressureTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Data = 32 * MiB;

    public static TheoryData<Mode, Way, int> CgroupSizes =>
        new MatrixTheoryData<Mode, Way, int>(Modes.All, Enum.GetValues<Way>(), [125, 50]);

    public static TheoryData<Mode, bool> EachModeWhileFillingOrNot => new MatrixTheoryData<Mode, bool>(Modes.All, [false, true]);

    [Theory]
    [MemberData(nameof(CgroupSizes))]
    public void A_cgroup_smaller_than_both_with_swap(Mode mode, Way way, int percentOfTheData)
    {
        Cgroup cgroup = Borrow(Cgroup.Memory());
        Borrow(new ZramSwap(8 * Data));
        Machine.RequireSwapAccounting();
        Attempt attempt = NewAttempt(mode, way, Data, fix: way == Way.Push, load =>
        {
            Puppet puppet = NewPuppet();
            cgroup.Enter(puppet.Pid);
            return load ? puppet.LoadLibrary() : puppet;
        });
        cgroup["memory.limit_in_bytes"] = Data * (ulong)percentOfTheData / 100;
        ulong idle = cgroup["memory.memsw.usage_in_bytes"] - Data;
        cgroup["memory.memsw.max_usage_in_bytes"] = 0;
        ulong refusals = cgroup["memory.failcnt"];
        Assert.Equal(Errno.None, attempt.Make(Errno.None));
        WaitForFills(attempt.Target);
        ulong peak = cgroup["memory.memsw.max_usage_in_bytes"] - idle;
        // what is handed over needs no more room than it had
        if (mode == Mode.Copy || percentOfTheData < 100)
            Assert.True(cgroup["memory.failcnt"] > refusals, "the limit was never reached: nothing was under pressure");
        attempt.Target.AssertContent(attempt.Result, Data, 1, firstPage: 1);
        if (mode == Mode.Copy) attempt.Source.AssertContent(attempt.At, Data, 1, firstPage: 1);
        // what was replaced was there as well
        else Assert.True(peak <= Data + (attempt.Place != 0 ? Data : 0) + 16 * MiB, $"{Data / MiB} MiB handed over, at most {peak / (double)MiB:F1} MiB at a time");
    }

    [Theory]
    [MemberData(nameof(EachModeWhileFillingOrNot))]
    public void The_holder_dies_of_a_cgroup_without_memory(Mode mode, bool whileFilling)
    {
        Cgroup cgroup = Borrow(Cgroup.Memory());
        Puppet source = NewPuppet(), target = NewPuppet(), glutton = NewPuppet();
        ulong at = source.MapFilled(Data, 1), much = glutton.Map(Data);
        Limit(cgroup, Data / 2);
        cgroup.Enter(glutton.Pid);
        MmapResult result = Call(source, target, at, Data, flags: mode.Flag() | MmapFlags.Lazy);
        target.Touch(result.Address, 4 * MiB);
        cgroup.Enter(result.Duplication.HolderPid);
        MakeVictim(result.Duplication.HolderPid);
        glutton.Post($"fill {much} {Data} 9 0 1");
        if (whileFilling) result.Duplication.Finish();
        Assert.True(result.Duplication.Wait(TimeSpan.FromSeconds(20)), Describe(result.Duplication));
        if (!whileFilling) Assert.Equal(DuplicationState.Lost, result.Duplication.State);
        AssertNoZeros(target, result);
        if (mode == Mode.Copy) source.AssertContent(at, Data, 1);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_copy_that_does_not_fit_into_the_cgroup_kills_somebody_but_gives_no_zeros(bool ratherTheHolder)
    {
        Cgroup cgroup = Borrow(Cgroup.Memory());
        Puppet source = NewPuppet(), target = NewPuppet();
        cgroup.Enter(source.Pid, target.Pid);
        ulong at = source.MapFilled(Data, 1);
        MmapResult result = Call(source, target, at, Data, flags: MmapFlags.Lazy);
        if (ratherTheHolder) MakeVictim(result.Duplication.HolderPid);
        Limit(cgroup, cgroup["memory.usage_in_bytes"] + Data / 2);
        result.Duplication.Finish();
        Assert.True(result.Duplication.Wait(TimeSpan.FromSeconds(30)), Describe(result.Duplication));
        if (ratherTheHolder) Assert.Equal(DuplicationState.Lost, result.Duplication.State);
        if (ProcessStatus.IsAlive(target.Pid)) AssertNoZeros(target, result);
        if (ProcessStatus.IsAlive(source.Pid)) source.AssertContent(at, Data, 1);
    }

    private static void MakeVictim(int pid) => File.WriteAllText($"/proc/{pid}/oom_score_adj", "1000");

    /// <summary>Of memory and of memory and swap together: there may be swap on the machine.</summary>
    private static void Limit(Cgroup cgroup, ulong bytes)
    {
        cgroup["memory.limit_in_bytes"] = bytes;
        if (Machine.AccountsSwap) cgroup["memory.memsw.limit_in_bytes"] = bytes;
    }

    private static void AssertNoZeros(Puppet target, MmapResult result)
    {
        Census seen = target.Examine(result.Address, result.Length, 1);
        Assert.True(seen is { Zero: 0, Wrong: 0, SegV: 0 }, $"process {target.Pid}: {seen}");
    }
}
