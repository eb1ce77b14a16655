namespace Pvmmap.Procfs;

/// <summary>
/// The flags of a VMA that the line "VmFlags:" of /proc/PID/smaps shows, named like the kernel's VM_ constants. The values are
/// ours: the kernel's bits differ between versions and architectures, its two-letter codes do not.
/// </summary>
[Flags]
internal enum VmFlags : ulong
{
    None = 0,
    Read = 1UL << 0,
    Write = 1UL << 1,
    Exec = 1UL << 2,
    Shared = 1UL << 3,
    MayRead = 1UL << 4,
    MayWrite = 1UL << 5,
    MayExec = 1UL << 6,
    MayShare = 1UL << 7,
    GrowsDown = 1UL << 8,
    PfnMap = 1UL << 9,
    Locked = 1UL << 10,
    LockOnFault = 1UL << 11,
    Io = 1UL << 12,
    SeqRead = 1UL << 13,
    RandRead = 1UL << 14,
    DontCopy = 1UL << 15,
    DontExpand = 1UL << 16,
    Account = 1UL << 17,
    NoReserve = 1UL << 18,
    HugeTlb = 1UL << 19,

    /// <summary>MAP_SYNC: page faults are synchronous (DAX).</summary>
    Sync = 1UL << 20,

    /// <summary>VM_ARCH_1: x86 PAT tracking, sparc ADI, powerpc SAO.</summary>
    Arch1 = 1UL << 21,
    WipeOnFork = 1UL << 22,
    DontDump = 1UL << 23,

    /// <summary>Shown on every VMA that was made or changed since soft-dirty tracking began.</summary>
    SoftDirty = 1UL << 24,
    MixedMap = 1UL << 25,
    HugePage = 1UL << 26,
    NoHugePage = 1UL << 27,
    Mergeable = 1UL << 28,
    UffdMissing = 1UL << 29,
    UffdWp = 1UL << 30,
    UffdMinor = 1UL << 31,
    ShadowStack = 1UL << 32,

    /// <summary>Pages may vanish under memory pressure (MAP_DROPPABLE, Linux 6.11).</summary>
    Droppable = 1UL << 33,

    /// <summary>mseal() (Linux 6.10).</summary>
    Sealed = 1UL << 34,

    /// <summary>May hold guard regions, MADV_GUARD_INSTALL (shown since Linux 6.19).</summary>
    MaybeGuard = 1UL << 35,

    /// <summary>arm64 branch target identification.</summary>
    Bti = 1UL << 36,

    /// <summary>arm64 memory tagging.</summary>
    Mte = 1UL << 37,

    /// <summary>Intel MPX, up to Linux 5.5.</summary>
    Mpx = 1UL << 38,

    /// <summary>VM_DENYWRITE, up to Linux 5.15.</summary>
    DenyWrite = 1UL << 39,

    /// <summary>VM_NONLINEAR, up to Linux 4.0.</summary>
    NonLinear = 1UL << 40,

    /// <summary>The kernel showed a code that is not in this list, or "??".</summary>
    Unknown = 1UL << 63,
}
