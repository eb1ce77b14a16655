using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>Processes under a seccomp filter: one that kills at the first system call that is not for talking to the test, and one that allows all.</summary>
public sealed class SeccompTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 8 * MiB;

    public static TheoryData<Mode, Way, MmapFlags> ConfinedTargets => new MatrixTheoryData<Mode, Way, MmapFlags>(
        Modes.All, [Way.Push, Way.ThirdParty], [MmapFlags.None, MmapFlags.Lazy, MmapFlags.Populate, MmapFlags.Fixed, MmapFlags.Fixed | MmapFlags.Lazy]);

    public static TheoryData<Mode, Way, MmapFlags> ConfinedSources => new MatrixTheoryData<Mode, Way, MmapFlags>(
        Modes.All, [Way.Pull, Way.ThirdParty], [MmapFlags.None, MmapFlags.Lazy, MmapFlags.Populate, MmapFlags.Fixed]);

    public static TheoryData<Mode, Way, bool> FilteredCallers =>
        new MatrixTheoryData<Mode, Way, bool>(Modes.All, [Way.Pull, Way.Push], [false, true]);

    [Theory]
    [MemberData(nameof(ConfinedTargets))]
    public void A_confined_target(Mode mode, Way way, MmapFlags flags)
    {
        (AddressSpace source, AddressSpace space) = Pair(way);
        Puppet target = (Puppet)space;
        ulong at = MapFilled(source, Length, 1), place = target.MapFilled(Length, 2);
        Seccomp.Confine(target);
        Hand(mode, source, target, at, place, flags);
    }

    [Theory]
    [MemberData(nameof(ConfinedSources))]
    public void A_confined_source(Mode mode, Way way, MmapFlags flags)
    {
        (AddressSpace space, AddressSpace target) = Pair(way);
        Puppet source = (Puppet)space;
        ulong at = source.MapFilled(Length, 1), place = MapFilled(target, Length, 2);
        Seccomp.Confine(source);
        Hand(mode, source, target, at, place, flags);
    }

    [Theory]
    [MemberData(nameof(EachMode))]
    public void Both_confined(Mode mode)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1), place = target.MapFilled(Length, 2);
        Seccomp.Confine(source);
        Seccomp.Confine(target);
        Hand(mode, source, target, at, place, MmapFlags.Fixed);
    }

    [Theory]
    [MemberData(nameof(FilteredCallers))]
    public void A_caller_with_a_filter_that_allows_everything(Mode mode, Way way, bool fix)
    {
        // as every process in a container has one
        Attempt attempt = NewAttempt(mode, way, Length, fix);
        Seccomp.Watch(way == Way.Push ? attempt.Source : attempt.Target);
        Assert.Equal(Errno.None, attempt.Make(Errno.None));
        attempt.Source.Kill();
        attempt.Target.AssertContent(attempt.Result, Length, 1, firstPage: 1);
    }

    [Theory]
    [MemberData(nameof(FilteredCallers))]
    public void A_filtered_caller_may_not_suspend_anothers_filter_EPERM(Mode mode, Way way, bool fix)
    {
        Attempt attempt = NewAttempt(mode, way, Length, fix);
        Seccomp.Watch(attempt.Source);
        Seccomp.Watch(attempt.Target);
        Assert.Equal(Errno.EPERM, attempt.Make(Errno.EPERM));
    }

    [Theory]
    [MemberData(nameof(EachMode))]
    public void Without_the_right_to_suspend_the_filter_EPERM(Mode mode)
    {
        Puppet caller = NewPuppetOf(65534, load: true), other = NewPuppetOf(65534);
        ulong own = caller.MapFilled(Length, 1), theirs = other.MapFilled(Length, 2);
        Seccomp.Confine(other);
        ProcessRecord before = ProcessRecord.TakeAtRest(other.Pid);
        Assert.Equal((-1L, Errno.EPERM), caller.Call(-other.Pid, own, Length, theirs, mode.Flag() | MmapFlags.Fixed));
        Assert.Equal((-1L, Errno.EPERM), caller.Call(other.Pid, theirs, Length, 0, mode.Flag()));
        before.AssertUnchanged();
        other.AssertContent(theirs, Length, 2);
        caller.AssertContent(own, Length, 1);
    }

    private void Hand(Mode mode, AddressSpace source, AddressSpace target, ulong at, ulong place, MmapFlags flags)
    {
        ProcessRecord? sourceBefore = Take(source), targetBefore = Take(target);
        MmapResult result = Call(source, target, at, Length, flags.HasFlag(MmapFlags.Fixed) ? place : 0, mode.Flag() | flags);
        targetBefore?.AssertUnchanged(new PageRange(result.Address, result.Address + Length));
        target.AssertContent(result.Address, Length / 2, 1);
        result.Duplication.Finish();
        AssertCompletes(result);
        target.AssertContent(result.Address, Length, 1);
        if (mode == Mode.Copy) source.AssertContent(at, Length, 1);
        else source.AssertTaken(at, Length, 1);
        // until a move is complete its pages lie in the source's memory
        sourceBefore?.AssertUnchanged(mode == Mode.Copy ? [] : [new PageRange(at, at + Length)]);
    }

    private static ProcessRecord? Take(AddressSpace space) => space is Puppet ? ProcessRecord.TakeAtRest(space.Pid) : null;
}
