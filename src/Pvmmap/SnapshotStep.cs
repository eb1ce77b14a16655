namespace Pvmmap;

/// <summary>The steps, in order, that only the capture of a whole process has. It shares those of <see cref="CallStep"/> up to the range that has been probed, from the
/// intermediate to its end, of the source's release, and of the code that the child gets.</summary>
internal enum SnapshotStep
{
    None,

    /// <summary>What advice withholds from a fork is lifted from the source's memory, or its largest part withheld.</summary>
    AdviceChanged,
    /// <summary>The fork is done, and the source's advice is what it was.</summary>
    AdviceRestored,
    /// <summary>What the fork does not have is about to be looked for in the source.</summary>
    PagemapOpened,
    /// <summary>What the fork does not have is copied to this process; the source stands still yet.</summary>
    ContentCopied,
    /// <summary>The source runs on, and the child, under the tracer, has that content too.</summary>
    KeeperFilled,
    /// <summary>The description is on its way to the keeper, which runs on its own code.</summary>
    DescriptionSent,
    /// <summary>The keeper has unmapped what it does not keep, and says that it is ready.</summary>
    KeeperReady,
}
