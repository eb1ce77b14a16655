using Pvmmap.Holder;

namespace Pvmmap.ConformanceTests.Survival;

/// <summary>The words of docs/survival.md.</summary>
internal static class Outcome
{
    public const string AsFound = "as found", Complete = "complete", SigBus = "SIGBUS for the rest", TwoPages = "as found but for two pages", ChildZeros = "SIGBUS; zeros in the child just forked", SourceKeepsAll = "source as found, target SIGBUS", Gone = "gone with the target", SourceKeeps = "source as found";

    /// <summary>Behind another word: mappings of ours stay in the source until it ends, for want of anybody who could take them away.</summary>
    public const string Remnants = "; our mappings left";

    /// <summary>The victim does not exist at that step, or not any more.</summary>
    public const string NotThere = "not there";

    /// <summary>Every cell that is not as it should be begins with this.</summary>
    public const string Bad = "BAD";

    /// <summary>What may come of a kill: decided beforehand, whatever the code does.</summary>
    public static IReadOnlyList<string> Allowed(Cell cell) => cell switch
    {
        // The last of ours, in the instant in which it takes itself away, takes nothing more.
        { Move: true, Victim: Victim.Holder or Victim.Both, Step: nameof(FillStep.GuardianEnded) or nameof(FillStep.ControlUnmapped) or nameof(FillStep.ImageWatched) }
            => [Complete, Complete + Remnants],
        // docs/limits.md: the instant between mapping the two pages for our calls and making them able to go by themselves.
        { Victim: Victim.Caller, Step: nameof(CallStep.SourcePagesMapped) } => [TwoPages],
        { Victim: Victim.Caller, Step: nameof(CallStep.TargetPagesMapped) } => [TwoPages],
        _ when cell.KillsTarget => cell.Move ? [SourceKeeps, Gone] : [Gone],
        // docs/limits.md: the child's userfaultfd, read with the message, is in no other hands yet.
        { Victim: Victim.Both, Step: nameof(FillStep.ForkRead) } => cell.Move ? [ChildZeros, ChildZeros + Remnants] : [ChildZeros],
        // The step itself takes the holder's end.
        { NeedsHolderDead: true, Move: false } => [AsFound, Complete, SigBus],
        { LosesAll: true, Move: true } => [AsFound, Complete, SigBus, SigBus + Remnants, Complete + Remnants, SourceKeepsAll],
        // While the holder makes itself ready the caller goes on in the target, and may be in that instant.
        { Victim: Victim.Caller, FillStep: > FillStep.None and <= FillStep.ReadySent } => [AsFound, Complete, TwoPages],
        { Victim: Victim.Caller or Victim.Source or Victim.Guardian } => [AsFound, Complete],
        { Victim: Victim.Holder, Move: true } => [AsFound, Complete],
        _ => [AsFound, Complete, SigBus],
    };
}
