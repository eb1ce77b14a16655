using System.Diagnostics;
using Pvmmap.Linux;

namespace Pvmmap.Holder;

/// <summary>How a fill ended, from the holder's process and its control page.</summary>
internal static class FillEnd
{
    /// <summary>The guardian needs a moment to poison what is left after the holder was killed.</summary>
    private static readonly TimeSpan GuardianPatience = TimeSpan.FromSeconds(10);

    public static DuplicationState StateOf(ControlMapping control) => Volatile.Read(ref control.Page.State) switch
    {
        ControlState.Complete => DuplicationState.Complete,
        ControlState.TargetGone => DuplicationState.TargetGone,
        ControlState.Lost => DuplicationState.Lost,
        _ => control.Page.Lazy != 0 && (control.Page.Command & ControlCommand.FinishNow) == 0 ? DuplicationState.Lazy : DuplicationState.Filling,
    };

    /// <summary>True if the state is one that a fill ends in.</summary>
    public static bool IsFinal(DuplicationState state) => state is DuplicationState.Complete or DuplicationState.TargetGone or DuplicationState.Lost;

    /// <summary>Waits for the holder's end. Null if it has not ended in time.</summary>
    public static DuplicationState? Await(FileDescriptor holder, ControlMapping control, TimeSpan timeout)
    {
        if (!Poll.Readable(holder, timeout)) return IsFinal(StateOf(control)) ? StateOf(control) : null;
        // Killed: the guardian says so in the control page when it has poisoned the rest. If it was killed too, nobody will.
        for (long since = Stopwatch.GetTimestamp(); !IsFinal(StateOf(control)) && Stopwatch.GetElapsedTime(since) < GuardianPatience;)
            control.AwaitChangeOfState(TimeSpan.FromMilliseconds(10));
        return IsFinal(StateOf(control)) ? StateOf(control) : DuplicationState.Lost;
    }
}
