using Pvmmap.Snapshots;

namespace Pvmmap.Tests.Snapshots;

/// <summary>A process made up: pages with content, pages that cannot be read, and nothing else.</summary>
internal sealed class FakeCoreSource : ICoreSource
{
    public const ulong Page = PageRange.PageSize;

    private readonly List<SnapshotRange> _ranges = [];
    private readonly Dictionary<ulong, byte[]> _pages = [];
    private readonly HashSet<ulong> _unreadable = [];
    private readonly List<PageRange> _lost = [];

    public SnapshotIdentity Identity { get; init; } = new() { ProcessId = 4711, CoreDumpFilter = 0x33 };

    public ReadOnlyMemory<byte> AuxiliaryVector { get; init; } = new byte[32];

    public IReadOnlyList<SnapshotRange> Ranges => _ranges;

    public IReadOnlyList<SnapshotThread> Threads { get; init; } = [];

    public IReadOnlyList<PageRange> Unreadable => _lost;

    /// <summary>Reading this page comes to this error.</summary>
    public (ulong Page, Errno Errno)? Trouble { get; set; }

    public int Reads { get; private set; }

    public SnapshotRange Map(ulong start, ulong pages, string permissions = "rw-p", string name = "", ulong inode = 0, string flags = "rd wr mr mw me ac",
        SnapshotContent content = SnapshotContent.Taken)
    {
        var range = new SnapshotRange
        {
            Range = new(start, start + pages * Page), Permissions = permissions, Name = name, Inode = inode, Flags = flags, Content = content,
        };
        _ranges.Add(range);
        return range;
    }

    /// <summary>Has the mapping that begins there begin elsewhere in its file.</summary>
    public FakeCoreSource WithOffset(ulong start, ulong offset)
    {
        int at = _ranges.FindIndex(range => range.Range.Start == start);
        _ranges[at] = _ranges[at] with { Offset = offset };
        return this;
    }

    /// <summary>Gives pages content of their own.</summary>
    public void Fill(ulong at, ulong pages = 1)
    {
        for (ulong page = at; page < at + pages * Page; page += Page) _pages[page] = Content(page);
    }

    /// <summary>Has pages there that cannot be read.</summary>
    public void Poison(ulong at, ulong pages = 1)
    {
        for (ulong page = at; page < at + pages * Page; page += Page) _unreadable.Add(page);
    }

    /// <summary>Has pages that could not be read when the snapshot was taken: nothing is there, and nothing says so but the list.</summary>
    public void Lose(ulong at, ulong pages) => _lost.Add(new(at, at + pages * Page));

    /// <summary>What Fill gives a page: its address all over, which is never zero.</summary>
    public static byte[] Content(ulong page)
    {
        byte[] bytes = new byte[Page];
        for (int i = 0; i < bytes.Length; i += 8) BitConverter.TryWriteBytes(bytes.AsSpan(i), page + 1);
        return bytes;
    }

    public void Read(ulong address, Span<byte> destination)
    {
        for (int done = 0; done < destination.Length;)
        {
            int got = ReadSome(address + (ulong)done, destination[done..]);
            if (got == 0) throw new PvmmapException(Trouble?.Page == (address + (ulong)done) / Page * Page ? Trouble.Value.Errno : Errno.EFAULT, "read");
            done += got;
        }
    }

    public int ReadSome(ulong address, Span<byte> destination)
    {
        Reads++;
        int done = 0;
        while (done < destination.Length)
        {
            ulong at = address + (ulong)done, page = at / Page * Page;
            if (_unreadable.Contains(page) || _lost.Exists(range => range.Contains(new(page, page + Page))) || Trouble?.Page == page || !_ranges.Exists(range => range.Range.Contains(new(page, page + Page)))) break;
            bool isFile = _ranges.Find(range => range.Range.Start <= at && at < range.Range.End)!.IsFileBacked;
            ReadOnlySpan<byte> content = _pages.GetValueOrDefault(page) ?? (isFile ? FileContent(page) : new byte[Page]);
            content = content[(int)(at - page)..];
            content = content[..Math.Min(content.Length, destination.Length - done)];
            content.CopyTo(destination[done..]);
            done += content.Length;
        }
        return done;
    }

    public IEnumerable<PageRange> Populated(PageRange range)
    {
        PageRange? run = null;
        foreach (ulong page in _pages.Keys.Union(_unreadable.Where(IsInMemory)).Where(page => range.Start <= page && page < range.End).Order())
        {
            if (run is { } r && r.End == page) run = new(r.Start, page + Page);
            else
            {
                if (run is { } done) yield return done;
                run = new(page, page + Page);
            }
        }
        if (run is { } last) yield return last;
    }

    // A page of a file that cannot be read is in nobody's memory.
    private bool IsInMemory(ulong page) => !_ranges.Exists(range => range.Content == SnapshotContent.File && range.Range.Contains(new(page, page + Page)));

    /// <summary>What the files hold: each page an ELF header and its address.</summary>
    private static byte[] FileContent(ulong page)
    {
        byte[] bytes = Content(page);
        "\x7f"u8.CopyTo(bytes);
        "ELF"u8.CopyTo(bytes.AsSpan(1));
        return bytes;
    }
}
