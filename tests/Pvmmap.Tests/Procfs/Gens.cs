using System.Globalization;
using System.Text;
using CsCheck;
using Pvmmap.Procfs;
using Xunit;

namespace Pvmmap.Tests.Procfs;

/// <summary>What /proc files may hold, and the kernel's way to write it down (show_map_vma() in fs/proc/task_mmu.c).</summary>
internal static class Gens
{
    private static readonly Gen<PageRange> s_range =
        Gen.Select(Gen.ULong[0, (1UL << 52) - 2], Gen.ULong[1, 1UL << 40])
            .Select((first, pages) => new PageRange(first << 12, Math.Min(first + pages, (1UL << 52) - 1) << 12));

    private static readonly Gen<string> s_path =
        Gen.Char["abz/ .[]()\n:-ü€"].Array[0, 30].Select(chars => "/" + new string(chars));

    // prctl(2): printable ASCII without [ ] \ $ and `.
    private static readonly Gen<string> s_anonymousName = Gen.Char[" abzAZ09.:(){}-_"].Array[0, 79].Select(chars => new string(chars));

    private static readonly Gen<(ulong Inode, string Name)> s_backing = Gen.OneOf(
        Gen.Const((0UL, "")),
        Gen.Int[0, 3].Select(i => (0UL, i switch { 0 => "[heap]", 1 => "[stack]", 2 => "[vdso]", _ => "[vvar]" })),
        s_anonymousName.Select(name => (0UL, $"[anon:{name}]")),
        Gen.Select(Gen.ULong[1, ulong.MaxValue], s_anonymousName).Select((inode, name) => (inode, $"[anon_shmem:{name}]")),
        Gen.Select(Gen.ULong[1, ulong.MaxValue], s_path).Select((inode, path) => (inode, path)),
        Gen.Select(Gen.ULong[1, ulong.MaxValue], s_path).Select((inode, path) => (inode, path + " (deleted)")));

    public static readonly Gen<Vma> Vma =
        Gen.Select(s_range, Gen.Int[0, 7], Gen.Bool, Gen.ULong[0, (1UL << 52) - 1], Gen.UInt[0, 4095], Gen.UInt[0, (1 << 20) - 1], s_backing)
            .Select((range, protection, shared, page, major, minor, backing) => new Vma
            {
                Range = range,
                Protection = (Protection)protection,
                Shared = shared,
                Offset = page << 12,
                DeviceMajor = major,
                DeviceMinor = minor,
                Inode = backing.Inode,
                Name = backing.Name,
            });

    public static string MapsLine(Vma vma)
    {
        var line = new StringBuilder();
        line.Append(CultureInfo.InvariantCulture, $"{vma.Range.Start:x8}-{vma.Range.End:x8} ");
        line.Append(vma.Protection.HasFlag(Protection.Read) ? 'r' : '-');
        line.Append(vma.Protection.HasFlag(Protection.Write) ? 'w' : '-');
        line.Append(vma.Protection.HasFlag(Protection.Execute) ? 'x' : '-');
        line.Append(vma.Shared ? 's' : 'p');
        line.Append(CultureInfo.InvariantCulture, $" {vma.Offset:x8} {vma.DeviceMajor:x2}:{vma.DeviceMinor:x2} {vma.Inode} ");
        if (vma.Name.Length != 0)
        {
            // seq_pad(): to the column 25 + 6 * sizeof(void *) - 1.
            while (line.Length < 72) line.Append(' ');
            line.Append(' ').Append(vma.Name.Replace("\n", "\\012", StringComparison.Ordinal));
        }
        return line.Append('\n').ToString();
    }

    /// <summary>Text with a few bytes overwritten, cut out or put in twice; and bytes of any kind.</summary>
    public static Gen<byte[]> Damaged(Gen<string> whole)
    {
        Gen<byte[]> damaged =
            from text in whole.List[1, 5].Select(parts => Encoding.UTF8.GetBytes(string.Concat(parts)))
            from cuts in Gen.Select(Gen.Int[0, text.Length], Gen.Int[0, text.Length]).Array[0, 2]
            from overwritten in Gen.Select(Gen.Int[0, text.Length - 1], Gen.Byte).Array[0, 4]
            select Damage(text, cuts, overwritten);
        return Gen.OneOf(damaged, Gen.Byte.Array[0, 200], Gen.Char["0aA: -kB\n\t"].Array[0, 60].Select(c => Encoding.UTF8.GetBytes(c)));
    }

    public static void ParsesOrSaysMalformed(byte[] text, Action<byte[]> parse)
    {
        Exception? e = Record.Exception(() => parse(text));
        if (e is not (null or FormatException)) Assert.Fail($"{e} on \"{Encoding.Latin1.GetString(text)}\"");
    }

    private static byte[] Damage(byte[] text, (int, int)[] cuts, (int, byte)[] overwritten)
    {
        byte[] result = [.. text];
        foreach ((int at, byte value) in overwritten) result[at] = value;
        foreach ((int a, int b) in cuts)
        {
            int from = Math.Min(a, result.Length), to = Math.Min(b, result.Length);
            result = [.. result[..from], .. result[to..]];
        }
        return result;
    }
}
