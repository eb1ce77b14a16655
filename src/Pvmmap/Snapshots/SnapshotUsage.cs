using Pvmmap.Procfs;

namespace Pvmmap.Snapshots;

/// <summary>
/// How much of a mapping was where, shortly before the stop: the figures of smaps, in bytes. They are of the whole mapping, also where a snapshot has a part
/// of it. What this kernel does not tell is 0.
/// </summary>
public sealed record SnapshotUsage
{
    /// <summary>Resident.</summary>
    public ulong Rss { get; init; }

    /// <summary>Resident, each page divided by the number of processes that map it.</summary>
    public ulong Pss { get; init; }

    /// <summary>Resident, mapped by others too, as it is on disk.</summary>
    public ulong SharedClean { get; init; }

    /// <summary>Resident, mapped by others too, changed.</summary>
    public ulong SharedDirty { get; init; }

    /// <summary>Resident, mapped by no other, as it is on disk.</summary>
    public ulong PrivateClean { get; init; }

    /// <summary>Resident, mapped by no other, changed.</summary>
    public ulong PrivateDirty { get; init; }

    /// <summary>Resident, and marked as used.</summary>
    public ulong Referenced { get; init; }

    /// <summary>Resident and of no file, changed pages of a private file mapping included.</summary>
    public ulong Anonymous { get; init; }

    /// <summary>Of <see cref="Anonymous"/>, in transparent huge pages.</summary>
    public ulong AnonHugePages { get; init; }

    /// <summary>Of shared memory, in transparent huge pages.</summary>
    public ulong ShmemPmdMapped { get; init; }

    /// <summary>Huge pages of the pool that others map too. They are in none of the figures above.</summary>
    public ulong SharedHugetlb { get; init; }

    /// <summary>Huge pages of the pool that no other maps.</summary>
    public ulong PrivateHugetlb { get; init; }

    /// <summary>Swapped out.</summary>
    public ulong Swap { get; init; }

    /// <summary>Swapped out, each page divided by the number of its users.</summary>
    public ulong SwapPss { get; init; }

    /// <summary>Locked (mlock).</summary>
    public ulong Locked { get; init; }

    /// <summary>Bytes in a page: more than <see cref="PageRange.PageSize"/> for huge pages of the pool.</summary>
    public ulong KernelPageSize { get; init; }

    /// <summary>The key of pkey_mprotect(2); 0, the default key, where the kernel has none.</summary>
    public int ProtectionKey { get; init; }

    /// <summary>Of a mapping that was several, or of which others have become a part since.</summary>
    internal SnapshotUsage With(SmapsEntry entry) => new()
    {
        Rss = Rss + entry.Rss,
        Pss = Pss + entry.Pss,
        SharedClean = SharedClean + entry.SharedClean,
        SharedDirty = SharedDirty + entry.SharedDirty,
        PrivateClean = PrivateClean + entry.PrivateClean,
        PrivateDirty = PrivateDirty + entry.PrivateDirty,
        Referenced = Referenced + entry.Referenced,
        Anonymous = Anonymous + entry.Anonymous,
        AnonHugePages = AnonHugePages + entry.AnonHugePages,
        ShmemPmdMapped = ShmemPmdMapped + entry.ShmemPmdMapped,
        SharedHugetlb = SharedHugetlb + entry.SharedHugetlb,
        PrivateHugetlb = PrivateHugetlb + entry.PrivateHugetlb,
        Swap = Swap + entry.Swap,
        SwapPss = SwapPss + entry.SwapPss,
        Locked = Locked + entry.Locked,
        KernelPageSize = entry.KernelPageSize,
        ProtectionKey = entry.ProtectionKey,
    };
}
