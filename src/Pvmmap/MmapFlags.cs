namespace Pvmmap;

/// <summary>How <see cref="ProcessVm.Mmap"/> places and fills the destination. The values are those of the C header.</summary>
[Flags]
public enum MmapFlags : ulong
{
    /// <summary>The destination address is a hint; 0 lets the kernel choose.</summary>
    None = 0,

    /// <summary>Exactly the destination address; what was mapped there is replaced, as with mmap(MAP_FIXED).</summary>
    Fixed = 0x1,

    /// <summary>Exactly the destination address, EEXIST if anything is mapped there. Wins over <see cref="Fixed"/>.</summary>
    FixedNoReplace = 0x2,

    /// <summary>Hand over: the source range is unmapped as part of the call, before the target can touch the new mapping.</summary>
    Move = 0x100,

    /// <summary>Fill on touch only, no background fill. Contradicts <see cref="Populate"/>.</summary>
    Lazy = 0x200,

    /// <summary>
    /// Return when every page is in place. Contradicts <see cref="Lazy"/>. A copy mostly keeps transparent huge pages where the destination is 0, or exact and at the same
    /// distance from a multiple of their size (2 MiB) as the source; docs/limits.md says when not. Otherwise see <see cref="Duplication.UseHugePages"/>.
    /// </summary>
    Populate = 0x400,
}
