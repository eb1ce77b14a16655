using System.Globalization;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>After return the caller and the source may be killed -9; if the holder is, missing pages are a SIGBUS, never zeros.</summary>
public sealed class SurvivalTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 64 * MiB;

    public static TheoryData<MmapFlags> Fills => [MmapFlags.None, MmapFlags.Lazy];

    [Theory]
    [MemberData(nameof(Fills))]
    public void The_source_is_killed_right_after_the_call(MmapFlags fill)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        MmapResult third = Call(source, target, at, Length, flags: fill), pull = Call(source, Own, at, Length, flags: fill);
        source.Kill();
        target.AssertContent(third.Address, Length, 1);
        Own.AssertContent(pull.Address, Length, 1);
        AssertEnds(third.Duplication, DuplicationState.Complete);
        AssertEnds(pull.Duplication, DuplicationState.Complete);
    }

    [Theory]
    [MemberData(nameof(Fills))]
    public void The_source_exits_or_execs_right_after_the_call(MmapFlags fill)
    {
        Puppet exits = NewPuppet(), execs = NewPuppet(), target = NewPuppet();
        ulong first = exits.MapFilled(Length, 1), second = execs.MapFilled(Length, 2);
        MmapResult fromExits = Call(exits, target, first, Length, flags: fill), fromExecs = Call(execs, target, second, Length, flags: fill);
        exits.Post($"exit 0");
        execs.Exec();
        Assert.Equal(0, Theatre.Nursery.WaitForEnd(exits.Pid));
        target.AssertContent(fromExits.Address, Length, 1);
        target.AssertContent(fromExecs.Address, Length, 2);
    }

    [Theory]
    [MemberData(nameof(Fills))]
    public void The_caller_who_is_the_source_is_killed_right_after_the_call(MmapFlags fill)
    {
        Puppet caller = NewPuppet().LoadLibrary(), target = NewPuppet();
        ulong at = caller.MapFilled(Length, 1);
        (long address, Errno errno) = caller.Call(-target.Pid, at, Length, 0, fill);
        Assert.Equal(Errno.None, errno);
        caller.Kill();
        target.AssertContent((ulong)address, Length, 1);
    }

    [Fact]
    public void The_caller_who_is_neither_exits_right_after_the_call()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        string tool = Path.Combine(Theatre.RepositoryRoot, "artifacts/bin/pvmmap");
        Assert.True(File.Exists(tool), $"{tool} is not there: run ./build first");
        ulong place = target.FreeRange(Length);
        (int code, string output) = Theatre.Run(
            tool, "copy", "--from", $"{source.Pid}", "--to", $"{target.Pid}", "--range", $"0x{at:x}+{Length}", "--at", $"0x{place:x}",
            "--fixed-noreplace", "--lazy", "--json");
        Assert.True(code == 0, output);
        source.Kill();
        target.AssertContent(place, Length, 1);
    }

    [Fact]
    public void The_target_is_killed_and_the_holder_ends()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        MmapResult lazy = Call(source, target, at, Length, flags: MmapFlags.Lazy);
        target.Touch(lazy.Address, MiB);
        target.Kill();
        AssertEnds(lazy.Duplication, DuplicationState.TargetGone);
        source.AssertContent(at, Length, 1);
    }

    [Fact]
    public void The_holder_is_killed_in_a_lazy_fill()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Lazy);
        target.AssertContent(result.Address, MiB, 1);
        target.Fill(result.Address + MiB, MiB, 2);
        Libc.Kill(result.Duplication.HolderPid, Libc.SIGKILL);
        AssertEnds(result.Duplication, DuplicationState.Lost);
        // what was there stays, the rest is SIGBUS
        target.AssertContent(result.Address, MiB, 1);
        target.AssertContent(result.Address + MiB, MiB, 2);
        Census rest = target.Examine(result.Address + 2 * MiB, Length - 2 * MiB, 1, 2 * MiB / Page);
        Assert.True(rest is { Zero: 0, Wrong: 0, SigBus: > 0 }, rest.ToString());
        // a system call that meets such a page fails; it does not see zeros
        ulong scratch = target.Scratch, missing = result.Address + Length - Page;
        target.Must(target.Syscall(Sys.pipe2, (long)scratch, 0), "pipe2");
        Assert.Equal(-(long)Errno.EFAULT, target.Syscall(Sys.write, BitConverter.ToInt32(target.Read(scratch + 4, 4)), (long)missing, 64));
        source.AssertContent(at, Length, 1);
    }

    public static TheoryData<MmapFlags> Modes => [MmapFlags.None, MmapFlags.Move];

    [Theory]
    [MemberData(nameof(Modes))]
    public void Holder_and_guardian_are_killed_at_once_and_there_are_no_zeros(MmapFlags mode)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Lazy | mode);
        target.AssertContent(result.Address, MiB, 1);
        Puppet child = ForkOf(target);
        Assert.True(Leftovers.IsOurs(result.Duplication.SentinelPid), Describe(result.Duplication));
        int guardian = result.Duplication.GuardianPid;
        Eventually.Holds(() => ProcessStatus.Userfaultfds(result.Duplication.SentinelPid) == 2, "the sentinel is told of the child (docs/limits.md)");
        Libc.Kill(result.Duplication.HolderPid, Libc.SIGKILL);
        Libc.Kill(guardian, Libc.SIGKILL);
        AssertEnds(result.Duplication, DuplicationState.Lost);
        foreach (Puppet each in (Puppet[])[target, child])
        {
            each.AssertContent(result.Address, MiB, 1);
            Census rest = each.Examine(result.Address + 2 * MiB, Length - 2 * MiB, 1, 2 * MiB / Page);
            Assert.True(rest is { Zero: 0, Wrong: 0, SigBus: > 0 }, rest.ToString());
        }
        Eventually.Holds(() => !Leftovers.IsOurs(result.Duplication.SentinelPid), "the sentinel ends");
    }

    [Fact]
    public void The_holder_is_killed_while_a_thread_waits_for_a_page_and_others_run()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(256 * MiB, 1);
        for (int round = 0; round < 5; round++)
        {
            MmapResult result = Call(source, target, at, 256 * MiB);
            target.StartHammers(2, result.Address, 256 * MiB, 1, 1);
            target.Post($"verify {result.Address} {256 * MiB} 1 0 1");
            Libc.Kill(result.Duplication.HolderPid, Libc.SIGKILL);
            Census seen = Actor.ToCensus(target.Answer());
            Assert.True(seen is { Zero: 0, Wrong: 0, SegV: 0 }, seen.ToString());
            target.JoinThreads();
            Tally tally = target.Tally();
            Assert.True(tally is { Zero: 0, Other: 0 }, tally.ToString());
            Assert.True(result.Duplication.Wait(TimeSpan.FromSeconds(20)), Describe(result.Duplication));
            Assert.True(seen.SigBus == 0 || result.Duplication.State == DuplicationState.Lost, Describe(result.Duplication));
            target.Unmap(result.Address, 256 * MiB);
        }
    }

    [Fact]
    public void The_holder_is_killed_and_the_targets_children_get_no_zeros_either()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Lazy);
        Puppet child = ForkOf(target);
        ulong moved = target.FreeRange(8 * MiB);
        target.Move(result.Address + 8 * MiB, 8 * MiB, moved);
        child.AssertContent(result.Address, MiB, 1);
        Libc.Kill(result.Duplication.HolderPid, Libc.SIGKILL);
        AssertEnds(result.Duplication, DuplicationState.Lost);
        AssertNoZeros(child, result.Address, Length, 0);
        AssertNoZeros(target, result.Address, 8 * MiB, 0);
        AssertNoZeros(target, moved, 8 * MiB, 8 * MiB / Page);
        AssertNoZeros(target, result.Address + 16 * MiB, Length - 16 * MiB, 16 * MiB / Page);
    }

    [Fact]
    public void The_guardian_is_killed_and_the_holder_serves_on()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Lazy);
        Libc.Kill(result.Duplication.GuardianPid, Libc.SIGKILL);
        Eventually.Holds(() => !Leftovers.IsOurs(result.Duplication.GuardianPid), "the guardian dies");
        target.AssertContent(result.Address, Length / 2, 1);
        result.Duplication.Finish();
        AssertCompletes(result);
        target.AssertContent(result.Address, Length, 1);
    }

    [Fact]
    public void A_pushing_caller_is_killed_at_any_moment()
    {
        Puppet target = NewPuppet();
        ulong place = target.MapFilled(4 * MiB, 1);
        target.StartIdlers(3);
        var random = new Random(1);
        for (int round = 0; round < 20; round++)
        {
            Puppet caller = NewPuppet().LoadLibrary();
            ulong own = caller.MapFilled(4 * MiB, 1);
            caller.Ask($"loop {-target.Pid} {own} {4 * MiB} {place} {(ulong)MmapFlags.Fixed}");
            Elapse(random.Next(30, 120));
            caller.Kill();
            // whatever had been done by then: the target lives, is nobody's tracee, and reads the content
            Eventually.Equals(0UL, () => ProcessStatus.Figure(target.Pid, "TracerPid"), "nobody traces the target");
            Assert.NotEqual('T', ProcessStatus.State(target.Pid));
            target.AssertContent(place, 4 * MiB, 1);
        }
        Assert.Equal("", target.Awake());
    }

    [Fact]
    public void A_pulling_caller_is_killed_at_any_moment()
    {
        Puppet source = NewPuppet();
        ulong at = source.MapFilled(4 * MiB, 1);
        source.StartIdlers(5);
        ulong mappings = (ulong)ProcessStatus.Mappings(source.Pid);
        var random = new Random(2);
        for (int round = 0; round < 20; round++)
        {
            Puppet caller = NewPuppet().LoadLibrary();
            ulong place = caller.MapFilled(4 * MiB, 1);
            caller.Ask($"loop {source.Pid} {at} {4 * MiB} {place} {(ulong)MmapFlags.Fixed}");
            Elapse(random.Next(30, 120));
            caller.Kill();
            Eventually.Equals(0UL, () => ProcessStatus.Figure(source.Pid, "TracerPid"), "nobody traces the source");
            Eventually.Holds(() => !ProcessStatus.Children(source.Pid).Any(ProcessStatus.IsAlive), "the source has no strange child", seconds: 5);
            Assert.NotEqual('T', ProcessStatus.State(source.Pid));
            source.AssertContent(at, 4 * MiB, 1);
        }
        // a tracer that dies between the stop and the repair leaves the EINTR that the kernel gives to epoll_wait; the others go on by themselves
        Assert.True(source.Awake() is "" or "epoll_wait:4", source.Awake());
        // a call that died half-way may leave its page of code behind, no more than that
        Assert.InRange((ulong)ProcessStatus.Mappings(source.Pid), mappings, mappings + 40);
    }

    /// <summary>Where the caller stops, and whether the range has left the source by then.</summary>
    public static TheoryData<bool, string, bool> StepsOfACopiedMove => new()
    {
        { false, "CommitPrepared", false }, { false, "RegionCommitted", false }, { false, "TargetPagesUnmapped", true },
        { true, "CommitPrepared", false }, { true, "RegionCommitted", false }, { true, "TargetPagesUnmapped", true },
    };

    [Theory]
    [MemberData(nameof(StepsOfACopiedMove))]
    public void A_move_that_is_copied_has_left_the_source_before_the_target_runs(bool shared, string step, bool left)
    {
        // of shared memory, and out of a source under a seccomp filter; see docs/limits.md
        const ulong Small = 64 * Page;
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.Map(Small, flags: shared ? MapFlags.Shared : MapFlags.Private), place = target.MapFilled(Small, 2);
        source.Fill(at, Small, 1);
        if (!shared) Seccomp.Watch(source);
        target.StartIdlers(3);
        (ProcessRecord sourceBefore, ProcessRecord targetBefore) = (ProcessRecord.TakeAtRest(source.Pid), ProcessRecord.TakeAtRest(target.Pid, new PageRange(place, place + Small)));
        SteppedCall call = new(source.Pid, target.Pid, at, Small / Page, step) { Destination = place, Flags = MmapFlags.Move | MmapFlags.Fixed };
        using SteppedCaller caller = new(Theatre, call);
        caller.Say("call");
        Assert.Equal(step, caller.Hear("at", "done")?[1]);
        Assert.Equal(left, Smaps.Within(source.Pid, at, Small).Count == 0);
        Assert.All(Directory.EnumerateDirectories($"/proc/{target.Pid}/task"), task => Assert.Equal('t', ProcessStatus.State(int.Parse(Path.GetFileName(task), CultureInfo.InvariantCulture))));
        Libc.Kill(caller.Pid, Libc.SIGKILL);
        foreach (Puppet each in (Puppet[])[source, target]) Eventually.Equals(0UL, () => ProcessStatus.Figure(each.Pid, "TracerPid"), "nobody traces them");
        target.AssertContent(place, Small, step == "CommitPrepared" ? 2UL : 1);
        targetBefore.AssertUnchanged();
        if (left) sourceBefore.AssertUnchanged(new PageRange(at, at + Small));
        else
        {
            sourceBefore.AssertUnchanged();
            source.AssertContent(at, Small, 1);
        }
        Assert.Equal("", target.Awake());
    }

    private static void AssertNoZeros(AddressSpace space, ulong at, ulong length, ulong firstPage)
    {
        Census seen = space.Examine(at, length, 1, firstPage);
        Assert.True(seen is { Zero: 0, Wrong: 0, SegV: 0 }, $"process {space.Pid}: {seen}");
    }

    /// <summary>Lets a random moment come; nothing is being waited for.</summary>
    private static void Elapse(int milliseconds)
    {
        using var never = new ManualResetEventSlim();
        never.Wait(milliseconds, TestContext.Current.CancellationToken);
    }
}
