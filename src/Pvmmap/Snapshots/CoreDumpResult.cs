namespace Pvmmap.Snapshots;

/// <summary>A core dump that has been written.</summary>
public sealed record CoreDumpResult
{
    /// <summary>Length of the core file, holes included, before compression.</summary>
    public required ulong CoreBytes { get; init; }

    /// <summary>Bytes of memory in it; the rest of its length reads as zeros because the memory did.</summary>
    public required ulong MemoryBytes { get; init; }

    /// <summary>
    /// Bytes that went to the output: less than <see cref="CoreBytes"/> where holes are left or it was compressed; null where only the stream knows.
    /// </summary>
    public ulong? OutputBytes { get; init; }

    /// <summary>How long it took.</summary>
    public required TimeSpan Time { get; init; }

    /// <summary>
    /// Program headers of type PT_LOAD: one for each mapping, but for what is unreadable or missing, and several where 1 GiB or more in the middle of one
    /// was never touched.
    /// </summary>
    public required int Segments { get; init; }

    /// <summary>Threads whose registers are in it.</summary>
    public required int Threads { get; init; }

    /// <summary>
    /// Pages that were to be in it and could not be read: poisoned, behind the end of a file that was cut off, guards of MADV_GUARD_INSTALL. The core
    /// does not tell of them, and debuggers say that they cannot read them, but for <see cref="WrittenAsZeros"/>.
    /// </summary>
    public required IReadOnlyList<PageRange> Unreadable { get; init; }

    /// <summary>True if there are any <see cref="WrittenAsZeros"/>.</summary>
    public bool UnreadableAsZeros => WrittenAsZeros.Count != 0;

    /// <summary>
    /// Of <see cref="Unreadable"/>, pages for which zeros stand, where the output could not be gone back in: the headers were out when they turned out
    /// unreadable. What lies behind the end of a file is known before.
    /// </summary>
    public IReadOnlyList<PageRange> WrittenAsZeros { get; init; } = [];

    /// <summary>Mappings that were to be in it and that the snapshot does not have: <see cref="SnapshotRange.Reason"/> says why.</summary>
    public required IReadOnlyList<SnapshotRange> Missing { get; init; }
}
