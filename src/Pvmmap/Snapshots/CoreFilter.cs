namespace Pvmmap.Snapshots;

/// <summary>Which memory goes into a core dump: the bits of /proc/PID/coredump_filter, core(5).</summary>
[Flags]
public enum CoreFilter
{
    /// <summary>Only what is dumped always: [vdso].</summary>
    None = 0,

    /// <summary>Anonymous private memory, and private file mappings that the process has written to.</summary>
    AnonymousPrivate = 1 << 0,

    /// <summary>Shared memory without a name in a file system: anonymous, memfd, System V, deleted files.</summary>
    AnonymousShared = 1 << 1,

    /// <summary>Private file mappings: program text.</summary>
    MappedPrivate = 1 << 2,

    /// <summary>Shared file mappings.</summary>
    MappedShared = 1 << 3,

    /// <summary>The first page of private file mappings that begin with an ELF header: build ids are there.</summary>
    ElfHeaders = 1 << 4,

    /// <summary>Private huge pages of hugetlbfs.</summary>
    HugeTlbPrivate = 1 << 5,

    /// <summary>Shared huge pages of hugetlbfs.</summary>
    HugeTlbShared = 1 << 6,

    /// <summary>Private DAX mappings. Only those made with MAP_SYNC can be told from other files.</summary>
    DaxPrivate = 1 << 7,

    /// <summary>Shared DAX mappings, as <see cref="DaxPrivate"/>.</summary>
    DaxShared = 1 << 8,

    /// <summary>All of them.</summary>
    All = (1 << 9) - 1,
}
