namespace Pvmmap;

/// <summary>The steps of a call, in order: each says what has just been done. What is done in the source, in the target or in both depends on the way.</summary>
internal enum CallStep
{
    None,

    /// <summary>Arguments, processes, permissions and the source's mappings have been looked at; nothing has been touched.</summary>
    Checked,
    /// <summary>The sentinel exists.</summary>
    SentinelStarted,
    /// <summary>The source's threads stand still; it has nothing of ours in it.</summary>
    SourceStopped,
    /// <summary>The way back lies on the source's stack.</summary>
    SourceWayBackWritten,
    /// <summary>The two pages for our calls are mapped in the source, and empty.</summary>
    SourcePagesMapped,
    /// <summary>The source can run our calls.</summary>
    SourcePrepared,
    /// <summary>The range has been found free of strange userfaultfds.</summary>
    RangeProbed,
    /// <summary>The intermediate that forks the holder exists.</summary>
    IntermediateStarted,
    /// <summary>The holder exists, and the intermediate still does.</summary>
    HolderForked,
    /// <summary>The intermediate has ended and is nobody's zombie.</summary>
    IntermediateReaped,
    /// <summary>A copy: our two pages are gone from the source, whose registers are still ours.</summary>
    SourcePagesUnmapped,
    /// <summary>A copy: the source runs on.</summary>
    SourceReleased,
    /// <summary>The holder, under the tracer, has a mapping for its code; one that has a copy of the source's memory has given up what it does not need, and has its socket.</summary>
    ImageMapped,
    /// <summary>The holder's code and arguments are there, and we have our end of its socket.</summary>
    ImageLoaded,
    /// <summary>The holder runs on its own code.</summary>
    HolderLaunched,
    /// <summary>The control page exists; the holder does not have it yet. A move out of the caller: the holder is just being born.</summary>
    ControlMade,
    /// <summary>The control page is on its way to the holder.</summary>
    ControlSent,
    /// <summary>The holder has its guardian and says that it is ready.</summary>
    HolderReady,
    /// <summary>A copy: what the range was at the cut has been read.</summary>
    CutRead,
    /// <summary>The target's threads stand still, or the one does that runs our calls.</summary>
    TargetStopped,
    /// <summary>The way back lies on the target's stack.</summary>
    TargetWayBackWritten,
    /// <summary>The two pages for our calls are mapped in the target, and empty.</summary>
    TargetPagesMapped,
    /// <summary>The target can run our calls.</summary>
    TargetPrepared,
    /// <summary>The region is mapped in the target, without access.</summary>
    RegionMapped,
    /// <summary>The target has a userfaultfd in its table.</summary>
    UserfaultfdMade,
    /// <summary>We have that userfaultfd too.</summary>
    UserfaultfdTaken,
    /// <summary>Only we have it.</summary>
    UserfaultfdClosed,
    /// <summary>The region is guarded.</summary>
    RegionRegistered,
    /// <summary>The region has the source's protections and attributes.</summary>
    RegionDressed,
    /// <summary>The control page says what goes where.</summary>
    RegionDescribed,
    /// <summary>The holder has the userfaultfd and answers; it no longer needs us.</summary>
    HolderServes,
    /// <summary>The sentinel watches over the region.</summary>
    SentinelReady,
    /// <summary>The next step makes the region the target's own.</summary>
    CommitPrepared,
    /// <summary>The first of several pieces is in place.</summary>
    FirstPieceInPlace,
    /// <summary>The region is the target's own, whole and where it belongs.</summary>
    RegionCommitted,
    /// <summary>A move: the pages have left the source, and we have seen it.</summary>
    RelocationSeen,
    /// <summary>Our two pages are gone from the target, whose registers are still ours.</summary>
    TargetPagesUnmapped,
    /// <summary>The target runs on.</summary>
    TargetReleased,
    /// <summary>A move: our two pages are gone from the source, whose registers are still ours.</summary>
    MovedSourcePagesUnmapped,
    /// <summary>A move: the source runs on.</summary>
    MovedSourceReleased,
    /// <summary>The caller has its result. (The test's own step.)</summary>
    Returned,
}
