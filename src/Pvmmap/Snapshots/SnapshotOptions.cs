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

    /// <summary>Bytes of shared memory with content up to which it is copied; more is EFBIG, before anything is stopped for long. 1 GiB if not set.</summary>
    public ulong MaximumSharedBytes { get; init; } = 1UL << 30;
}
