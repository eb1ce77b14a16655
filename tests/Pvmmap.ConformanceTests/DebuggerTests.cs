using System.Buffers.Binary;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>gdb on the source or the target: EBUSY while it is attached, no harm when it comes after the call.</summary>
public sealed class DebuggerTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 32 * MiB;

    public enum Side { Source, Target }

    public static TheoryData<Mode, Side, bool> EachModeSideRunningOrNot =>
        new MatrixTheoryData<Mode, Side, bool>(Modes.All, Enum.GetValues<Side>(), [false, true]);

    public static TheoryData<Mode, Side> EachModeAndSide => new MatrixTheoryData<Mode, Side>(Modes.All, Enum.GetValues<Side>());

    [Theory]
    [MemberData(nameof(EachModeSideRunningOrNot))]
    public void Attached_to_either_side_EBUSY(Mode mode, Side side, bool running)
    {
        Puppet source = NewPuppet(), target = NewPuppet(), debugged = side == Side.Source ? source : target;
        ulong at = source.MapFilled(Length, 1), place = target.MapFilled(Length, 2), own = MapFilled(Own, Length, 3);
        using Debugger gdb = new Debugger().Attach(debugged.Pid);
        if (running) gdb.Continue();
        ProcessRecord sourceBefore = ProcessRecord.TakeAtRest(source.Pid), targetBefore = ProcessRecord.TakeAtRest(target.Pid);
        Refused(Errno.EBUSY, source, target, at, Length, place, mode.Flag() | MmapFlags.Fixed);
        Refused(Errno.EBUSY, source, target, at, Length, flags: mode.Flag());
        if (side == Side.Source) Refused(Errno.EBUSY, source, Own, at, Length, own, mode.Flag() | MmapFlags.Fixed);
        else Refused(Errno.EBUSY, Own, target, own, Length, place, mode.Flag() | MmapFlags.Fixed);
        sourceBefore.AssertUnchanged();
        targetBefore.AssertUnchanged();
        if (running) gdb.Interrupt();
        Assert.Equal(FirstWord(side == Side.Source ? 1UL : 2UL, 5), gdb.Read((side == Side.Source ? at : place) + 5 * Page, 8));
        gdb.Detach();
        source.AssertContent(at, Length, 1);
        target.AssertContent(place, Length, 2);
        Own.AssertContent(own, Length, 3);
    }

    [Theory]
    [MemberData(nameof(EachModeAndSide))]
    public void Attached_right_after_the_call_the_fill_completes(Mode mode, Side side)
    {
        Puppet source = NewPuppet(), target = NewPuppet(), debugged = side == Side.Source ? source : target;
        ulong at = source.MapFilled(Length, 1), place = target.MapFilled(Length, 2), others = source.MapFilled(MiB, 3);
        using var gdb = new Debugger();
        MmapResult result = Call(source, target, at, Length, place, mode.Flag() | MmapFlags.Fixed | MmapFlags.Lazy);
        gdb.Attach(debugged.Pid);
        ulong looked = (side == Side.Target ? place : others) + 100 * Page;
        byte[] word = FirstWord(side == Side.Target ? 1UL : 3UL, 100);
        // the kernel does not wait for a userfaultfd where a debugger reads: a missing page cannot be read, and must not be zeros
        if (gdb.Read(looked, 8) is { } read) Assert.Equal(word, read);
        result.Duplication.Finish();
        AssertCompletes(result);
        Assert.Equal(word, gdb.Read(looked, 8));
        gdb.Continue();
        if (side == Side.Target) target.AssertContent(place, Length, 1);
        gdb.Interrupt();
        gdb.Detach();
        target.AssertContent(place, Length, 1);
        source.AssertContent(others, MiB, 3);
        if (mode == Mode.Copy) source.AssertContent(at, Length, 1);
    }

    [Theory]
    [MemberData(nameof(EachModeAndSide))]
    public void Attached_while_the_fill_runs_and_killed(Mode mode, Side side)
    {
        Puppet source = NewPuppet(), target = NewPuppet(), debugged = side == Side.Source ? source : target;
        ulong at = source.MapFilled(Length, 1);
        MmapResult result;
        using (var gdb = new Debugger())
        {
            result = Call(source, target, at, Length, flags: mode.Flag() | MmapFlags.Lazy);
            target.Touch(result.Address, MiB);
            gdb.Attach(debugged.Pid);
            gdb.Kill();
        }
        Eventually.Equals(0UL, () => ProcessStatus.Figure(debugged.Pid, "TracerPid"), "nobody traces it");
        result.Duplication.Finish();
        target.AssertContent(result.Address, Length, 1);
        AssertCompletes(result);
    }

    [Theory]
    [MemberData(nameof(EachMode))]
    public void Attached_to_the_holder_the_fill_completes_and_leaves_nothing_behind(Mode mode)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        MmapResult result = Call(source, target, at, Length, flags: mode.Flag() | MmapFlags.Lazy);
        using Debugger gdb = new Debugger().Attach(result.Duplication.HolderPid);
        gdb.Continue();
        result.Duplication.Finish();
        AssertCompletes(result);
        Eventually.Holds(() => !Leftovers.IsOurs(result.Duplication.HolderPid), "the holder ends");
        target.AssertContent(result.Address, Length, 1);
        Assert.DoesNotContain("memfd:pvmmap", File.ReadAllText($"/proc/{source.Pid}/maps"), StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(EachModeAndSide))]
    public void A_caller_that_runs_under_gdb(Mode mode, Side side)
    {
        // pushes when it is the source, pulls when it is the target: nobody has to trace it
        Attempt attempt = NewAttempt(mode, side == Side.Source ? Way.Push : Way.Pull, Length, fix: true);
        Puppet caller = side == Side.Source ? attempt.Source : attempt.Target;
        using Debugger gdb = new Debugger().Attach(caller.Pid);
        gdb.Continue();
        Assert.Equal(Errno.None, attempt.Make(Errno.None));
        gdb.Interrupt();
        gdb.Detach();
        attempt.Target.AssertContent(attempt.Result, Length, 1, firstPage: 1);
    }

    private static byte[] FirstWord(ulong seed, ulong page)
    {
        byte[] bytes = new byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, Pattern.FirstWord(seed, page));
        return bytes;
    }
}
