using Pvmmap.ConformanceTests.Stage;
using Pvmmap.ConformanceTests.Survival;

namespace Pvmmap.ConformanceTests;

/// <summary>
/// SIGSTOP and SIGCONT, which no mask holds back from a thread that is traced, at a child that is not yet on its own: it is still in the source's process group, and may be sent
/// what a shell's job control or a service manager sends to that.
/// </summary>
public sealed class StopSignalTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Pages = 192;

    private static readonly CallStep[] s_steps = [CallStep.HolderForked, CallStep.IntermediateReaped, CallStep.SourceReleased];

    public static TheoryData<string, int> Cases => [.. from step in s_steps from signal in new[] { Libc.SIGCONT, Libc.SIGSTOP } select (step.ToString(), signal)];

    [Theory]
    [MemberData(nameof(Cases))]
    public void A_copy_does_not_take_it_for_anything_else(string step, int signal)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Pages * Page, 1);
        ulong region = PlayWith(signal, "call", new SteppedCall(source.Pid, target.Pid, at, Pages, step));
        target.AssertContent(region, Pages * Page, 1);
        source.AssertContent(at, Pages * Page, 1);
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Nor_does_a_capture(string step, int signal)
    {
        using Sitter sitter = new(Theatre);
        PlayWith(signal, "capture", new SteppedCall(sitter.Pid, 0, Sitter.Address, Sitter.Pages, step));
        sitter.AssertAsFound($"signal {signal} at {step}");
    }

    /// <summary>What the process itself is sent while it stands still, in that order; and whether it is stopped when the call is over, as it would be without the call.</summary>
    public static TheoryData<bool, int, int, bool> OfTheProcessItself => new()
    {
        { false, Libc.SIGSTOP, Libc.SIGCONT, false }, { false, Libc.SIGCONT, Libc.SIGSTOP, true }, { false, Libc.SIGSTOP, Libc.SIGSTOP, true },
        { true, Libc.SIGSTOP, Libc.SIGCONT, false }, { true, Libc.SIGCONT, Libc.SIGSTOP, true }, { true, Libc.SIGSTOP, Libc.SIGSTOP, true },
    };

    [Theory]
    [MemberData(nameof(OfTheProcessItself))]
    public void The_last_one_counts(bool target, int first, int second, bool stopped)
    {
        Puppet from = NewPuppet(), to = NewPuppet();
        ulong at = from.MapFilled(Pages * Page, 1);
        string steps = target ? $"{CallStep.TargetPrepared},{CallStep.RegionRegistered}" : $"{CallStep.SourcePrepared},{CallStep.IntermediateReaped}";
        int pid = target ? to.Pid : from.Pid;
        using SteppedCaller caller = new(Theatre, new SteppedCall(from.Pid, to.Pid, at, Pages, steps));
        try
        {
            caller.Say("call");
            foreach (int signal in new[] { first, second })
            {
                Assert.Equal("at", caller.Hear("at", "done")?[0]);
                Libc.Kill(pid, signal);
                caller.Say("go");
            }
            ulong region = caller.HearSuccess();
            Eventually.Equals(stopped, () => ProcessStatus.State(pid) == 'T', "the process is stopped if it was sent SIGSTOP last");
            Assert.Equal(stopped, ProcessStatus.State(pid) == 'T');
            if (stopped) Libc.Kill(pid, Libc.SIGCONT);
            // Whoever answers is not stopped: a SIGSTOP that the call has sent comes before the answer.
            to.AssertContent(region, Pages * Page, 1);
            from.AssertContent(at, Pages * Page, 1);
            Assert.NotEqual('T', ProcessStatus.State(pid));
        }
        finally
        {
            Libc.Kill(pid, Libc.SIGCONT);
        }
    }

    private ulong PlayWith(int signal, string what, SteppedCall call)
    {
        using SteppedCaller caller = new(Theatre, call);
        caller.Say(what);
        Assert.Equal("at", caller.Hear("at", "done")?[0]);
        Assert.True(caller.Holder != 0, "there is no child yet");
        Libc.Kill(caller.Holder, signal);
        caller.Say("go");
        return caller.HearSuccess();
    }
}
