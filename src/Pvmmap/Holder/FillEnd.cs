using System.Diagnostics;
using Pvmmap.Linux;

namespace Pvmmap.Holder;

/// <summary>How a fill ended, from the holder's process and its control page.</summary>
internal static class FillEnd
{
    /// <summary>The guardian needs a moment to poison what is left after the holder was killed.</summary>
    private static readonly TimeSpan GuardianPatience = TimeSpan.FromSeconds(10);

    /// <summary>A process that is killed wakes nobody: look again after this long.</summary>
    private static readonly TimeSpan Slice = TimeSpan.FromMilliseconds(20);

    public static DuplicationState StateOf(ControlMapping control) => Volatile.Read(ref control.Page.State) switch
    {
        ControlState.Complete => DuplicationState.Complete,
        ControlState.TargetGone => DuplicationState.TargetGone,
        ControlState.Lost => DuplicationState.Lost,
        _ => control.Page.Lazy != 0 && (control.Page.Command & ControlCommand.FinishNow) == 0 ? DuplicationState.Lazy : DuplicationState.Filling,
    };

    /// <summary>True if the state is one that a fill ends in.</summary>
    public static bool IsFinal(DuplicationState state) => state is DuplicationState.Complete or DuplicationState.TargetGone or DuplicationState.Lost;

    /// <summary>Waits for the end of the fill. Null if it has not ended in time.</summary>
    /// <param name="holder">The holder; null if there never was one, because everything was in place at once.</param>
    /// <param name="guardian">Its guardian, which goes on in its place after a move; null if it is not known.</param>
    /// <param name="control">Their control page.</param>
    /// <param name="timeout">How long to wait.</param>
    public static DuplicationState? Await(FileDescriptor? holder, FileDescriptor? guardian, ControlMapping control, TimeSpan timeout)
    {
        if (holder is null) return StateOf(control);
        long begin = Stopwatch.GetTimestamp();
        if (control.Page.Move == 0)
        {
            if (!Poll.Readable(holder, timeout)) return Final(control);
        }
        else
        {
            // The holder still has to take itself away when all is done, and when it is killed the guardian goes on.
            while (Final(control) is null && !(Pidfd.HasEnded(holder) && (guardian is null || Pidfd.HasEnded(guardian))))
            {
                TimeSpan left = timeout - Stopwatch.GetElapsedTime(begin);
                if (timeout != Timeout.InfiniteTimeSpan && left <= TimeSpan.Zero) return null;
                control.AwaitChangeOfState(timeout == Timeout.InfiniteTimeSpan || left > Slice ? Slice : left);
            }
        }
        // Killed: the guardian says so in the control page when it has poisoned the rest. If it was killed too, nobody will.
        for (long since = Stopwatch.GetTimestamp(); Final(control) is null && Stopwatch.GetElapsedTime(since) < GuardianPatience;)
            control.AwaitChangeOfState(TimeSpan.FromMilliseconds(10));
        return Final(control) ?? DuplicationState.Lost;
    }

    private static DuplicationState? Final(ControlMapping control) => StateOf(control) is var state && IsFinal(state) ? state : null;
}
