using System.Text;

namespace Pvmmap.Procfs;

/// <summary>/proc/PID/maps: the VMAs of a process in the order of their addresses.</summary>
internal static class Maps
{
    /// <exception cref="FormatException">A line is not one that the kernel writes.</exception>
    public static List<Vma> Parse(ReadOnlySpan<byte> text)
    {
        List<Vma> vmas = new(text.Count((byte)'\n') + 1);
        while (ProcText.NextLine(ref text, out ReadOnlySpan<byte> line)) vmas.Add(ParseLine(line, vmas is [.., var last] ? last.Name : ""));
        return vmas;
    }

    /// <summary>The VMAs of a live process; none if it is a kernel thread or is exiting.</summary>
    /// <exception cref="PvmmapException">ESRCH or EPERM.</exception>
    public static List<Vma> Read(int pid) => ProcFile.Parse(pid, "maps", Parse);

    /// <summary>Those that overlap a range.</summary>
    /// <exception cref="PvmmapException">ESRCH or EPERM.</exception>
    public static List<Vma> Read(int pid, PageRange within)
    {
        using MapsFile maps = MapsFile.Open(pid);
        List<Vma> vmas = [];
        for (ulong at = within.Start; at < within.End && maps.FindFrom(at) is { } vma && vma.Range.Start < within.End; at = vma.Range.End) vmas.Add(vma);
        return vmas;
    }

    /// <summary>The lowest address that is mapped; null if nothing is.</summary>
    /// <exception cref="PvmmapException">ESRCH or EPERM.</exception>
    public static ulong? Lowest(int pid)
    {
        using MapsFile maps = MapsFile.Open(pid);
        return maps.FindRangeFrom(0)?.Start;
    }

    /// <summary>Parses "start-end perms offset major:minor inode   name", the form of show_map_vma() in fs/proc/task_mmu.c.</summary>
    /// <param name="line">The line.</param>
    /// <param name="nameBefore">The name in the line before: a file's VMAs lie side by side.</param>
    internal static Vma ParseLine(ReadOnlySpan<byte> line, string nameBefore = "")
    {
        var text = new ProcText(line);
        ulong start = text.Hex();
        text.Expect('-');
        ulong end = text.Hex();
        if (end <= start || (start | end) % PageRange.PageSize != 0) throw text.Malformed();
        text.Expect(' ');
        var protection = Protection.None;
        if (text.Either('r', '-')) protection |= Protection.Read;
        if (text.Either('w', '-')) protection |= Protection.Write;
        if (text.Either('x', '-')) protection |= Protection.Execute;
        bool shared = text.Either('s', 'p');
        text.Expect(' ');
        ulong offset = text.Hex();
        text.Expect(' ');
        uint major = text.Hex32();
        text.Expect(':');
        uint minor = text.Hex32();
        text.Expect(' ');
        ulong inode = text.Decimal();
        if (!text.Rest.IsEmpty && text.Rest[0] != (byte)' ') throw text.Malformed();
        text.SkipBlanks();
        return new Vma
        {
            Range = new PageRange(start, end),
            Protection = protection,
            Shared = shared,
            Offset = offset,
            DeviceMajor = major,
            DeviceMinor = minor,
            Inode = inode,
            Name = Ascii.Equals(text.Rest, nameBefore) ? nameBefore : ParseName(text.Rest),
        };
    }

    // Newline is the one character that the kernel escapes here, and it does not escape the backslash:
    // any other sequence is a backslash and three digits in the file's name.
    internal static string ParseName(ReadOnlySpan<byte> name)
    {
        if (name.IsEmpty) return "";
        string text = Encoding.UTF8.GetString(name);
        return name.Contains((byte)'\\') ? text.Replace("\\012", "\n", StringComparison.Ordinal) : text;
    }
}
