namespace Pvmmap.Holder;

/// <summary>The steps of a fill, of the processes that make it: each says what has just been done.</summary>
internal enum FillStep
{
    None,

    /// <summary>The holder has mapped its control page.</summary>
    ControlMapped,
    /// <summary>The guardian exists.</summary>
    GuardianStarted,
    /// <summary>A move: a place for the pages is kept in the source's memory.</summary>
    PlaceReserved,
    /// <summary>A move: the first page of a mapping is where its attributes can be read cheaply; those of others are not.</summary>
    PageProbed,
    /// <summary>A move: the first pages of all mappings of the range are there.</summary>
    ProbePlaced,
    /// <summary>A move: one of them is back.</summary>
    PageBroughtBack,
    /// <summary>A move: all are back, and nothing is guarded.</summary>
    ProbeRestored,
    /// <summary>The holder has said that it is ready.</summary>
    ReadySent,
    /// <summary>The holder has the target's userfaultfd.</summary>
    UserfaultfdReceived,
    /// <summary>The state says that the holder serves, or, in a move, that all is prepared.</summary>
    StatePublished,
    /// <summary>The holder has told the caller so.</summary>
    ServingSent,
    /// <summary>A move: the holder has read that the target has the region, and done nothing yet.</summary>
    CommitRead,
    /// <summary>A move: the control page says that the pages go, whatever dies.</summary>
    CommitWritten,
    /// <summary>A move: a piece of the range has left the source, and others have not.</summary>
    PieceMoved,
    /// <summary>A move: the whole range has left the source.</summary>
    RangeMoved,
    /// <summary>A move: the pages have their name and attributes at the new place.</summary>
    RangeSettled,
    /// <summary>A move: the state says that the source has the range no longer.</summary>
    RelocationPublished,
    /// <summary>A page fault of the target has been read.</summary>
    FaultRead,
    /// <summary>It is answered; the holder still has the pages.</summary>
    FaultCopied,
    /// <summary>The holder has dropped them.</summary>
    FaultDropped,
    /// <summary>A batch of the background fill is in place; the holder still has the pages.</summary>
    BatchCopied,
    /// <summary>The holder has dropped them.</summary>
    BatchDropped,
    /// <summary>A batch of the fill's second thread is in place; the holder still has the pages, and its first thread waits.</summary>
    WorkerBatchCopied,
    /// <summary>The target has forked: read.</summary>
    ForkRead,
    /// <summary>The child's segments are listed; it is not served yet.</summary>
    ForkHalfApplied,
    /// <summary>The child is served; the message is not ticked off.</summary>
    ForkApplied,
    /// <summary>The target has moved a part of the region: read.</summary>
    RemapRead,
    /// <summary>The part is listed at both places.</summary>
    RemapHalfApplied,
    /// <summary>It is listed at the new place; the message is not ticked off.</summary>
    RemapApplied,
    /// <summary>The target drops a part of the region (MADV_DONTNEED): read.</summary>
    RemoveRead,
    /// <summary>The part is listed both as content and as zeros.</summary>
    RemoveHalfApplied,
    /// <summary>It is listed as zeros; the message is not ticked off.</summary>
    RemoveApplied,
    /// <summary>The target has unmapped a part of the region: read.</summary>
    UnmapRead,
    /// <summary>The part is listed no longer; the holder still has the pages.</summary>
    UnmapHalfApplied,
    /// <summary>The pages are dropped; the message is not ticked off.</summary>
    UnmapApplied,
    /// <summary>The guardian has seen the holder end before its time.</summary>
    HolderEndSeen,
    /// <summary>The guardian has applied the messages that the holder had read.</summary>
    MessagesRecovered,
    /// <summary>A copy: the guardian has poisoned what was missing.</summary>
    RestPoisoned,
    /// <summary>Every page is in place and the region guarded no more; the state does not say so yet.</summary>
    Unregistered,
    /// <summary>A move: the place of the pages is gone from the source's memory.</summary>
    PlaceUnmapped,
    /// <summary>The state says that the fill has ended.</summary>
    EndPublished,
    /// <summary>A move: the guardian is gone.</summary>
    GuardianEnded,
    /// <summary>A move: the control page is gone from the source's memory.</summary>
    ControlUnmapped,
    /// <summary>A move: nothing but the holder's code is left there, and it is about to go.</summary>
    ImageWatched,
}
