using System.Text;
using Pvmmap.Linux;

namespace Pvmmap.Procfs;

/// <summary>/proc/PID/maps: the VMAs of a process in the order of their addresses.</summary>
internal static class Maps
{
    /// <exception cref="FormatException">A line is not one that the kernel writes.</exception>
    public static List<Vma> Parse(ReadOnlySpan<byte> text)
    {
        List<Vma> vmas = [];
        while (ProcText.NextLine(ref text, out ReadOnlySpan<byte> line)) vmas.Add(ParseLine(line));
        return vmas;
    }

    /// <summary>The VMAs of a live process; none if it is a kernel thread or is exiting.</summary>
    /// <exception cref="PvmmapException">ESRCH or EPERM.</exception>
    public static List<Vma> Read(int pid) => ProcFile.Parse(pid, "maps", Parse);

    /// <summary>Those that overlap a range, by a question for each where the kernel answers that.</summary>
    /// <exception cref="PvmmapException">ESRCH or EPERM.</exception>
    public static List<Vma> Read(int pid, PageRange within) =>
        Ask(pid, within, most: int.MaxValue) ?? Read(pid).FindAll(vma => vma.Range.Overlaps(within));

    /// <summary>The lowest address that is mapped; null if nothing is.</summary>
    /// <exception cref="PvmmapException">ESRCH or EPERM.</exception>
    public static ulong? Lowest(int pid) =>
        (Ask(pid, new PageRange(0, ulong.MaxValue & ~(PageRange.PageSize - 1)), most: 1) ?? Read(pid)) is [var first, ..] ? first.Range.Start : null;

    // Null before Linux 6.11, and where a name is too long.
    private static List<Vma>? Ask(int pid, PageRange within, int most)
    {
        using ProcFile file = ProcFile.Open(pid, "maps");
        Span<byte> name = stackalloc byte[512];
        List<Vma> vmas = [];
        for (ulong at = within.Start; at < within.End && vmas.Count < most;)
        {
            switch (file.Query(at, name, out ProcmapQuery.Query vma))
            {
                case Errno.None:
                    if (vma.Start >= within.End) return vmas;
                    vmas.Add(FromQuery(vma, name));
                    at = vma.End;
                    break;
                case Errno.ENOENT:
                    return vmas;
                default:
                    return null;
            }
        }
        return vmas;
    }

    private static Vma FromQuery(in ProcmapQuery.Query vma, ReadOnlySpan<byte> name) => new()
    {
        Range = new PageRange(vma.Start, vma.End),
        Protection = (Protection)(vma.Flags & (ProcmapQuery.PROCMAP_QUERY_VMA_READABLE | ProcmapQuery.PROCMAP_QUERY_VMA_WRITABLE | ProcmapQuery.PROCMAP_QUERY_VMA_EXECUTABLE)),
        Shared = (vma.Flags & ProcmapQuery.PROCMAP_QUERY_VMA_SHARED) != 0,
        Offset = vma.Offset,
        DeviceMajor = vma.DeviceMajor,
        DeviceMinor = vma.DeviceMinor,
        Inode = vma.Inode,
        Name = vma.NameSize > 1 ? ParseName(name[..((int)vma.NameSize - 1)]) : "",
    };

    /// <summary>Parses "start-end perms offset major:minor inode   name", the form of show_map_vma() in fs/proc/task_mmu.c.</summary>
    internal static Vma ParseLine(ReadOnlySpan<byte> line)
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
            Name = ParseName(text.Rest),
        };
    }

    // Newline is the one character that the kernel escapes here, and it does not escape the backslash:
    // any other sequence is a backslash and three digits in the file's name.
    private static string ParseName(ReadOnlySpan<byte> name)
    {
        if (name.IsEmpty) return "";
        string text = Encoding.UTF8.GetString(name);
        return name.Contains((byte)'\\') ? text.Replace("\\012", "\n", StringComparison.Ordinal) : text;
    }
}
