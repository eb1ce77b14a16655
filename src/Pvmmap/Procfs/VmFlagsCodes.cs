namespace Pvmmap.Procfs;

/// <summary>The two-letter codes of show_smap_vma_flags() in fs/proc/task_mmu.c.</summary>
internal static class VmFlagsCodes
{
    /// <summary>Parses what follows "VmFlags:", codes with blanks between them.</summary>
    /// <remarks>A code that a newer kernel added sets <see cref="VmFlags.Unknown"/>.</remarks>
    /// <exception cref="FormatException">A word is not two characters long.</exception>
    public static VmFlags Parse(ReadOnlySpan<byte> codes)
    {
        var flags = VmFlags.None;
        var text = new ProcText(codes);
        while (true)
        {
            ReadOnlySpan<byte> code = text.Word();
            if (code.IsEmpty) return flags;
            if (code.Length != 2) throw text.Malformed();
            flags |= Flag(code);
        }
    }

    private static VmFlags Flag(ReadOnlySpan<byte> code) => (code[0] << 8 | code[1]) switch
    {
        'r' << 8 | 'd' => VmFlags.Read,
        'w' << 8 | 'r' => VmFlags.Write,
        'e' << 8 | 'x' => VmFlags.Exec,
        's' << 8 | 'h' => VmFlags.Shared,
        'm' << 8 | 'r' => VmFlags.MayRead,
        'm' << 8 | 'w' => VmFlags.MayWrite,
        'm' << 8 | 'e' => VmFlags.MayExec,
        'm' << 8 | 's' => VmFlags.MayShare,
        'g' << 8 | 'd' => VmFlags.GrowsDown,
        'p' << 8 | 'f' => VmFlags.PfnMap,
        'l' << 8 | 'o' => VmFlags.Locked,
        'l' << 8 | 'f' => VmFlags.LockOnFault,
        'i' << 8 | 'o' => VmFlags.Io,
        's' << 8 | 'r' => VmFlags.SeqRead,
        'r' << 8 | 'r' => VmFlags.RandRead,
        'd' << 8 | 'c' => VmFlags.DontCopy,
        'd' << 8 | 'e' => VmFlags.DontExpand,
        'a' << 8 | 'c' => VmFlags.Account,
        'n' << 8 | 'r' => VmFlags.NoReserve,
        'h' << 8 | 't' => VmFlags.HugeTlb,
        's' << 8 | 'f' => VmFlags.Sync,
        'a' << 8 | 'r' => VmFlags.Arch1,
        'w' << 8 | 'f' => VmFlags.WipeOnFork,
        'd' << 8 | 'd' => VmFlags.DontDump,
        's' << 8 | 'd' => VmFlags.SoftDirty,
        'm' << 8 | 'm' => VmFlags.MixedMap,
        'h' << 8 | 'g' => VmFlags.HugePage,
        'n' << 8 | 'h' => VmFlags.NoHugePage,
        'm' << 8 | 'g' => VmFlags.Mergeable,
        'u' << 8 | 'm' => VmFlags.UffdMissing,
        'u' << 8 | 'w' => VmFlags.UffdWp,
        'u' << 8 | 'i' => VmFlags.UffdMinor,
        's' << 8 | 's' => VmFlags.ShadowStack,
        'd' << 8 | 'p' => VmFlags.Droppable,
        's' << 8 | 'l' => VmFlags.Sealed,
        'g' << 8 | 'u' => VmFlags.MaybeGuard,
        'b' << 8 | 't' => VmFlags.Bti,
        'm' << 8 | 't' => VmFlags.Mte,
        'm' << 8 | 'p' => VmFlags.Mpx,
        'd' << 8 | 'w' => VmFlags.DenyWrite,
        'n' << 8 | 'l' => VmFlags.NonLinear,
        _ => VmFlags.Unknown,
    };
}
