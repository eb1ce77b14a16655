namespace Pvmmap.Snapshots;

/// <summary>What <see cref="ProcessSnapshot.Capture"/> takes.</summary>
public sealed record SnapshotOptions
{
    /// <summary>The address ranges to take; null, the default, takes all. Pages in them that are not mapped are no error.</summary>
    public IReadOnlyList<PageRange>? Ranges { get; init; }

    /// <summary>
    /// Whether the content of writable shared mappings is taken too. It is copied while the process stands still, about a millisecond for each
    /// MiB or two. False: such mappings are listed, and cannot be read.
    /// </summary>
    public bool SharedMemory { get; init; } = true;

    /// <summary>
    /// Which kinds of shared memory are taken, in the bits of core(5); those of private memory do not count. All if not set. For a core dump those that
    /// will be in it are enough: the others cost the process a longer stop.
    /// </summary>
    public CoreFilter SharedKinds { get; init; } = CoreFilter.All;

    /// <summary>Whether shared memory is taken that the process excludes from core dumps with madvise(MADV_DONTDUMP).</summary>
    public bool SharedDontDump { get; init; } = true;

    /// <summary>
    /// Bytes of shared memory with content up to which it is copied; more is EFBIG, before the process is stopped, or before anything is copied if it comes
    /// to so much meanwhile. 1 GiB if not set.
    /// </summary>
    public ulong MaximumSharedBytes { get; init; } = 1UL << 30;
}
