namespace Pvmmap.Procfs;

/// <summary>The two-letter codes of show_smap_vma_flags() in fs/proc/task_mmu.c.</summary>
internal static class VmFlagsCodes
{
    private static readonly (string Code, VmFlags Flag)[] s_codes =
    [
        ("rd", VmFlags.Read),
        ("wr", VmFlags.Write),
        ("ex", VmFlags.Exec),
        ("sh", VmFlags.Shared),
        ("mr", VmFlags.MayRead),
        ("mw", VmFlags.MayWrite),
        ("me", VmFlags.MayExec),
        ("ms", VmFlags.MayShare),
        ("gd", VmFlags.GrowsDown),
        ("pf", VmFlags.PfnMap),
        ("lo", VmFlags.Locked),
        ("lf", VmFlags.LockOnFault),
        ("io", VmFlags.Io),
        ("sr", VmFlags.SeqRead),
        ("rr", VmFlags.RandRead),
        ("dc", VmFlags.DontCopy),
        ("de", VmFlags.DontExpand),
        ("ac", VmFlags.Account),
        ("nr", VmFlags.NoReserve),
        ("ht", VmFlags.HugeTlb),
        ("sf", VmFlags.Sync),
        ("ar", VmFlags.Arch1),
        ("wf", VmFlags.WipeOnFork),
        ("dd", VmFlags.DontDump),
        ("sd", VmFlags.SoftDirty),
        ("mm", VmFlags.MixedMap),
        ("hg", VmFlags.HugePage),
        ("nh", VmFlags.NoHugePage),
        ("mg", VmFlags.Mergeable),
        ("um", VmFlags.UffdMissing),
        ("uw", VmFlags.UffdWp),
        ("ui", VmFlags.UffdMinor),
        ("ss", VmFlags.ShadowStack),
        ("dp", VmFlags.Droppable),
        ("sl", VmFlags.Sealed),
        ("gu", VmFlags.MaybeGuard),
        ("bt", VmFlags.Bti),
        ("mt", VmFlags.Mte),
        ("mp", VmFlags.Mpx),
        ("dw", VmFlags.DenyWrite),
        ("nl", VmFlags.NonLinear),
    ];

    private static readonly Dictionary<int, VmFlags> s_flags = s_codes.ToDictionary(code => (code.Code[0] << 8) | code.Code[1], code => code.Flag);

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

    /// <summary>The codes of flags, with blanks between them, in the kernel's order. A flag that has no code here is left out.</summary>
    public static string Format(VmFlags flags) => string.Join(' ', s_codes.Where(code => (flags & code.Flag) != 0).Select(code => code.Code));

    private static VmFlags Flag(ReadOnlySpan<byte> code) => s_flags.GetValueOrDefault((code[0] << 8) | code[1], VmFlags.Unknown);
}
