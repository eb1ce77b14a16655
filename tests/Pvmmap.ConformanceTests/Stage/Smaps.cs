using System.Globalization;
using System.Runtime.InteropServices;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>A VMA as /proc/PID/smaps shows it; figures in bytes.</summary>
public sealed record Vma(PageRange Range, string Permissions, ulong Offset, string Device, string Inode, string Name)
{
    public Dictionary<string, ulong> Figures { get; } = [];

    /// <summary>The two-letter words of VmFlags, sorted.</summary>
    public string Flags { get; set; } = "";

    public bool Has(string flag) => Flags.Split(' ').Contains(flag);

    public bool IsPrivateAnonymous => Permissions[3] == 'p' && Inode == "0" && (Name is "" or "[heap]" or "[stack]" || Name.StartsWith("[anon:", StringComparison.Ordinal));

    public ulong Resident => Figures["Rss"];

    public ulong Swapped => Figures["Swap"];
}

internal static class Smaps
{
    public static List<Vma> Read(int pid)
    {
        var all = new List<Vma>();
        foreach (string line in File.ReadLines($"/proc/{pid}/smaps"))
        {
            string[] words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (words[0][^1] != ':') all.Add(Head(words));
            else if (words[0] == "VmFlags:") all[^1].Flags = string.Join(' ', words[1..].Order(StringComparer.Ordinal));
            else if (words is [var key, var kib, "kB"]) all[^1].Figures[key[..^1]] = 1024 * ulong.Parse(kib, CultureInfo.InvariantCulture);
        }
        return all;
    }

    /// <summary>Without figures and VmFlags, from maps: for a process with tens of thousands of VMAs the kernel needs seconds to write smaps.</summary>
    public static List<Vma> ReadMaps(int pid) =>
        [.. File.ReadLines($"/proc/{pid}/maps").Select(line => Head(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)))];

    /// <summary>The VMAs that have a part in the range.</summary>
    public static List<Vma> Within(int pid, ulong address, ulong length) =>
        [.. Read(pid).Where(vma => vma.Range.Overlaps(new PageRange(address, address + length)))];

    /// <summary>Bytes present in the range itself: a VMA may be larger, for the kernel joins it with its neighbours.</summary>
    public static ulong Resident(int pid, ulong address, ulong length) => Pages(pid, address, length, bit: 63);

    /// <summary>Bytes of the range that are swapped out.</summary>
    public static ulong Swapped(int pid, ulong address, ulong length) => Pages(pid, address, length, bit: 62);

    /// <summary>Bytes of the VMAs in the range that are in transparent huge pages.</summary>
    public static ulong InHugePages(int pid, ulong address, ulong length) => Within(pid, address, length).Aggregate(0UL, (sum, vma) => sum + vma.Figures["AnonHugePages"]);

    private static ulong Pages(int pid, ulong address, ulong length, int bit)
    {
        byte[] entries = new byte[length / PageRange.PageSize * 8];
        using FileStream pagemap = File.OpenRead($"/proc/{pid}/pagemap");
        pagemap.Position = (long)(address / PageRange.PageSize * 8);
        pagemap.ReadExactly(entries);
        ulong pages = 0;
        foreach (ulong entry in MemoryMarshal.Cast<byte, ulong>(entries)) pages += entry >> bit & 1;
        return pages * PageRange.PageSize;
    }

    /// <summary>What the second column of maps shows for a private mapping.</summary>
    public static string Letters(Prot protection) => string.Concat(
        protection.HasFlag(Prot.Read) ? 'r' : '-', protection.HasFlag(Prot.Write) ? 'w' : '-', protection.HasFlag(Prot.Exec) ? 'x' : '-', 'p');

    private static Vma Head(string[] words)
    {
        string[] ends = words[0].Split('-');
        var range = new PageRange(Hex(ends[0]), Hex(ends[1]));
        return new Vma(range, words[1], Hex(words[2]), words[3], words[4], string.Join(' ', words[5..]));
    }

    private static ulong Hex(string text) => ulong.Parse(text, NumberStyles.HexNumber, CultureInfo.InvariantCulture);
}
