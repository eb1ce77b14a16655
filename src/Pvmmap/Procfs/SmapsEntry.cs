namespace Pvmmap.Procfs;

/// <summary>One VMA as /proc/PID/smaps shows it. Amounts are in bytes; a line that this kernel does not write counts as 0.</summary>
internal sealed record SmapsEntry
{
    public required Vma Vma { get; init; }

    public VmFlags Flags { get; init; }

    public ulong Rss { get; init; }

    /// <summary>Resident bytes, each page divided by the number of processes that map it.</summary>
    public ulong Pss { get; init; }

    /// <summary>Resident bytes that belong to no file, changed pages of a private file mapping included.</summary>
    public ulong Anonymous { get; init; }

    public ulong AnonHugePages { get; init; }

    public ulong Swap { get; init; }

    public ulong Locked { get; init; }

    public ulong SharedClean { get; init; }

    public ulong SharedDirty { get; init; }

    public ulong PrivateClean { get; init; }

    public ulong PrivateDirty { get; init; }

    public ulong Referenced { get; init; }

    public ulong ShmemPmdMapped { get; init; }

    public ulong SharedHugetlb { get; init; }

    public ulong PrivateHugetlb { get; init; }

    public ulong SwapPss { get; init; }

    /// <summary>Bytes in a page of this VMA: more than <see cref="PageRange.PageSize"/> for hugetlb.</summary>
    public ulong KernelPageSize { get; init; }

    /// <summary>The key of pkey_mprotect(); 0, the default key, where the kernel has none.</summary>
    public int ProtectionKey { get; init; }

    /// <summary>Of <see cref="NumaMaps"/>, where that has been read too; null for the default.</summary>
    public MemoryPolicy? Policy { get; init; }
}
