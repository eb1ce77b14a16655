namespace Pvmmap.Procfs;

/// <summary>One page in /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).</summary>
internal readonly record struct PagemapEntry(ulong Value)
{
    private const ulong PfnMask = (1UL << 55) - 1;

    public bool Present => (Value & 1UL << 63) != 0;

    /// <summary>In swap, or on its way there or elsewhere: migration entries and, since Linux 5.19, uffd-wp markers show as swapped too.</summary>
    public bool Swapped => (Value & 1UL << 62) != 0;

    /// <summary>A page of a file or of shared memory; false for private anonymous pages.</summary>
    public bool FileOrShared => (Value & 1UL << 61) != 0;

    /// <summary>A guard page (MADV_GUARD_INSTALL), told apart since Linux 6.15; it shows as swapped too.</summary>
    public bool Guard => (Value & 1UL << 58) != 0;

    /// <summary>Write-protected through a userfaultfd (Linux 5.13).</summary>
    public bool UffdWp => (Value & 1UL << 57) != 0;

    /// <summary>Mapped by this process only.</summary>
    public bool ExclusivelyMapped => (Value & 1UL << 56) != 0;

    public bool SoftDirty => (Value & 1UL << 55) != 0;

    /// <summary>Page frame number; 0 without CAP_SYS_ADMIN, and for a page that is not present.</summary>
    public ulong Pfn => Present ? Value & PfnMask : 0;
}
