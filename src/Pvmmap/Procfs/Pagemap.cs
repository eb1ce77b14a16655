using System.Buffers.Binary;

namespace Pvmmap.Procfs;

/// <summary>/proc/PID/pagemap: one entry for each page of the address space, in order.</summary>
internal static class Pagemap
{
    private const int EntrySize = sizeof(ulong);

    /// <exception cref="FormatException">The bytes are not whole entries.</exception>
    public static List<PagemapEntry> Parse(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length % EntrySize != 0) throw new FormatException($"{bytes.Length} bytes are not whole pagemap entries");
        var entries = new List<PagemapEntry>(bytes.Length / EntrySize);
        for (int i = 0; i < bytes.Length; i += EntrySize) entries.Add(new(BinaryPrimitives.ReadUInt64LittleEndian(bytes[i..])));
        return entries;
    }

    /// <summary>The entries of a range's pages; fewer where the address space ends, none where the process has no memory any more.</summary>
    /// <exception cref="PvmmapException">ESRCH (a kernel thread or zombie too) or EPERM.</exception>
    public static List<PagemapEntry> Read(int pid, PageRange range)
    {
        using ProcFile file = ProcFile.Open(pid, "pagemap");
        byte[] bytes = new byte[checked((int)(range.Length / PageRange.PageSize) * EntrySize)];
        int length = 0;
        while (length < bytes.Length)
        {
            int got = file.Read(bytes.AsSpan(length), (range.Start / PageRange.PageSize * EntrySize) + (ulong)length);
            if (got == 0) break;
            length += got;
        }
        return Parse(bytes.AsSpan(0, length));
    }
}
