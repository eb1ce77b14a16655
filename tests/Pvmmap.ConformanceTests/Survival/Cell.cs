using Pvmmap.ConformanceTests.Stage;
using Pvmmap.Holder;

namespace Pvmmap.ConformanceTests.Survival;

/// <summary>One cell of the matrix: what is done, how far it gets, and who is killed then.</summary>
public sealed record Cell(Deal Deal, Way Way, string Step, Victim Victim)
{
    public bool Move => Deal == Deal.Move;

    /// <summary>
    /// Pages of the range: three batches of the background fill, and three pieces alike. Or so few that they are copied at once, or so many that two threads
    /// share them.
    /// </summary>
    public ulong Pages => Deal == Deal.TinyCopy ? 48UL : FillStep == FillStep.WorkerBatchCopied ? 3072UL : 192;

    internal CallStep CallStep => Enum.TryParse(Step, out CallStep step) ? step : CallStep.None;

    internal FillStep FillStep => CallStep == CallStep.None ? Enum.Parse<FillStep>(Step) : FillStep.None;

    public bool KillsTarget => Victim == Victim.Target || (Victim == Victim.Caller && Way == Way.Pull);

    public bool KillsSource => Victim == Victim.Source || (Victim == Victim.Caller && Way == Way.Push);

    /// <summary>What the target must do for the step to be reached; null if nothing.</summary>
    internal string? Deed => FillStep switch
    {
        FillStep.FaultRead or FillStep.FaultCopied or FillStep.FaultDropped => "touch",
        FillStep.ForkRead or FillStep.ForkHalfApplied or FillStep.ForkApplied => "fork",
        FillStep.RemapRead or FillStep.RemapHalfApplied or FillStep.RemapApplied => "remap",
        FillStep.RemoveRead or FillStep.RemoveHalfApplied or FillStep.RemoveApplied => "drop",
        FillStep.UnmapRead or FillStep.UnmapHalfApplied or FillStep.UnmapApplied => "unmap",
        _ => null,
    };

    /// <summary>The guardian's own steps come only after the holder's end.</summary>
    internal bool NeedsHolderDead => FillStep is FillStep.HolderEndSeen or FillStep.MessagesRecovered or FillStep.RestPoisoned;

    /// <summary>Cells differ in where the region goes, as their number does: over content or to a free place, in one mapping or three.</summary>
    public MmapFlags Flags => (Move ? MmapFlags.Move : 0)
        | (IsLazy ? MmapFlags.Lazy : 0) | (Deed is not null || CallStep == CallStep.FirstPieceInPlace ? MmapFlags.Fixed : Place);

    public ulong Pieces => CallStep == CallStep.FirstPieceInPlace || (Deed is null && Variant % 2 == 1) ? 3UL : 1;

    /// <summary>The fill waits, so that its victims are there; it goes on when they have been killed.</summary>
    private bool IsLazy => Deal != Deal.TinyCopy && (CallStep != CallStep.None || Deed is not null || NeedsHolderDead);

    /// <summary>Nobody of ours is left who could turn what is missing into SIGBUS.</summary>
    internal bool LosesAll => Victim == Victim.Both || (NeedsHolderDead && Victim == Victim.Guardian);

    private MmapFlags Place => Variant / 2 == 1 ? MmapFlags.Fixed : 0;

    private int Variant => ((int)CallStep + (int)FillStep + (int)Victim) % 4;

    /// <summary>Everybody who can be killed in a call of this way.</summary>
    public static IReadOnlyList<Victim> Victims(Way way) =>
        [.. Enum.GetValues<Victim>().Where(victim => victim != (way == Way.Push ? Victim.Source : way == Way.Pull ? Victim.Target : (Victim)(-1)))];

    /// <summary>The steps that such a call and its fill have, in order.</summary>
    public static IReadOnlyList<string> Steps(Deal deal, Way way) =>
    [
        .. Enum.GetValues<CallStep>().Where(step => step != CallStep.None && Has(deal, way, step)).Select(step => step.ToString()),
        .. Enum.GetValues<FillStep>().Where(step => step != FillStep.None && Has(deal, step)).Select(step => step.ToString()),
    ];

    /// <summary>The whole matrix.</summary>
    public static IReadOnlyList<Cell> All() =>
    [
        .. from deal in Enum.GetValues<Deal>()
           from way in Enum.GetValues<Way>()
           from step in Steps(deal, way)
           from victim in Victims(way)
           select new Cell(deal, way, step, victim),
    ];

    private static bool Has(Deal deal, Way way, CallStep step) => step switch
    {
        // Nobody serves.
        CallStep.ControlSent or CallStep.HolderReady or CallStep.ImageMapped or CallStep.ImageLoaded or CallStep.HolderLaunched
            when deal == Deal.TinyCopy && way != Way.Push => false,
        CallStep.UserfaultfdMade or CallStep.UserfaultfdTaken or CallStep.UserfaultfdClosed or CallStep.RegionRegistered or CallStep.RegionDressed
            or CallStep.RegionDescribed or CallStep.HolderServes when deal == Deal.TinyCopy => false,
        // Nothing is done from outside in the process that calls.
        CallStep.SourceStopped or CallStep.SourceWayBackWritten or CallStep.SourcePagesMapped or CallStep.SourcePrepared
            or CallStep.IntermediateStarted or CallStep.HolderForked or CallStep.ImageMapped or CallStep.ImageLoaded or CallStep.HolderLaunched => way != Way.Push,
        CallStep.SourcePagesUnmapped or CallStep.SourceReleased => way != Way.Push && deal != Deal.Move,
        CallStep.MovedSourcePagesUnmapped or CallStep.MovedSourceReleased => way != Way.Push && deal == Deal.Move,
        CallStep.TargetStopped or CallStep.TargetWayBackWritten or CallStep.TargetPagesMapped or CallStep.TargetPrepared
            or CallStep.TargetPagesUnmapped or CallStep.TargetReleased => way != Way.Pull,
        CallStep.CutRead => deal != Deal.Move,
        CallStep.RelocationSeen => deal == Deal.Move,
        _ => true,
    };

    private static bool Has(Deal deal, FillStep step) => step switch
    {
        _ when deal == Deal.TinyCopy => false,
        FillStep.PageProbed or FillStep.ProbePlaced or FillStep.PageBroughtBack or FillStep.ProbeRestored or FillStep.PlaceReserved or FillStep.CommitRead or FillStep.CommitWritten or FillStep.PieceMoved or FillStep.RangeMoved or FillStep.RangeSettled
            or FillStep.RelocationPublished or FillStep.PlaceUnmapped or FillStep.GuardianEnded or FillStep.ControlUnmapped or FillStep.ImageWatched => deal == Deal.Move,
        FillStep.RestPoisoned => deal != Deal.Move,
        _ => true,
    };

    public override string ToString() => $"{Deal.ToString().ToLowerInvariant()}, {Way}, at {Step}, {Victim} killed";
}

/// <summary>What is done with the range.</summary>
public enum Deal
{
    /// <summary>A copy.</summary>
    Copy,

    /// <summary>A copy of a range that is so small that it is in place when the call returns.</summary>
    TinyCopy,

    /// <summary>A move.</summary>
    Move,
}
