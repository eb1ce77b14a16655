using Pvmmap.Procfs;

namespace Pvmmap.Source;

/// <summary>What lies in the range that is to be taken: refuses what cannot be, and cuts the rest into pieces of equal kind.</summary>
internal sealed class SourcePlan
{
    /// <summary>Attributes that the target's VMA gets too.</summary>
    public const VmFlags Carried = VmFlags.GrowsDown | VmFlags.NoReserve | VmFlags.HugePage | VmFlags.NoHugePage | VmFlags.DontDump | VmFlags.Mergeable;

    /// <summary>MADV_DONTFORK and MADV_WIPEONFORK: a fork would not see these pages unless the advice is lifted for the instant.</summary>
    public const VmFlags WithheldFromFork = VmFlags.DontCopy | VmFlags.WipeOnFork;

    private const VmFlags Unusual = VmFlags.Io | VmFlags.PfnMap | VmFlags.MixedMap;

    private SourcePlan(PageRange range, List<SourcePiece> pieces, List<PageRange> parts, bool readable, bool exact)
    {
        Parts = parts;
        IsReadable = readable;
        IsExact = exact;
        Range = range;
        Pieces = pieces;
    }

    public PageRange Range { get; }

    /// <summary>In order of addresses, without gaps.</summary>
    public IReadOnlyList<SourcePiece> Pieces { get; }

    /// <summary>The same range by the source's own VMAs: pieces join those that differ in nothing that is carried.</summary>
    public IReadOnlyList<PageRange> Parts { get; }

    /// <summary>True if the attributes are known too, not only coverage and kinds.</summary>
    public bool IsExact { get; }

    /// <summary>False if some of the range is protected against reading, by its protection or by a protection key.</summary>
    public bool IsReadable { get; }

    /// <summary>Coverage and kinds as /proc/PID/maps shows them, without attributes: quick, whatever the size. EFAULT names what is wrong.</summary>
    public static SourcePlan FromMaps(int pid, PageRange range) =>
        Check(pid, range, Maps.Read(pid, range).Select(vma => new SmapsEntry { Vma = vma }), exact: false);

    /// <summary>The same with attributes, from smaps: the kernel walks every page up to the end of the range for that (20 ms/GiB in 4 KiB pages).</summary>
    public static SourcePlan FromSmaps(int pid, PageRange range) => Check(pid, range, Smaps.Read(pid, range));

    /// <summary>The same, from the attributes of each VMA of the range, wherever they were read.</summary>
    public SourcePlan WithAttributes(int pid, IEnumerable<SmapsEntry> attributes) =>
        Check(pid, Range, attributes.Zip(Parts, (entry, part) => new SmapsEntry { Vma = entry.Vma with { Range = part }, Flags = entry.Flags, ProtectionKey = entry.ProtectionKey }));

    /// <summary>The same on VMAs already read.</summary>
    public static SourcePlan Check(int pid, PageRange range, IEnumerable<SmapsEntry> entries, bool exact = true)
    {
        List<SourcePiece> pieces = [];
        List<PageRange> parts = [];
        bool readable = true;
        ulong at = range.Start;
        foreach (SmapsEntry entry in entries)
        {
            PageRange part = entry.Vma.Range.Intersect(range);
            if (part.Length == 0) continue;
            if (part.Start > at) break;
            Refuse(pid, part, entry);
            parts.Add(part);
            readable &= entry.Vma.Protection.HasFlag(Protection.Read) && entry.ProtectionKey == 0;
            SourcePiece piece = new(part, entry.Vma.Protection, entry.Flags & (Carried | WithheldFromFork), entry.Vma.AnonymousName);
            if (pieces.Count > 0 && pieces[^1] with { Range = part } == piece)
                pieces[^1] = piece with { Range = new PageRange(pieces[^1].Range.Start, part.End) };
            else
                pieces.Add(piece);
            at = part.End;
        }
        if (at < range.End)
            throw new PvmmapException(Errno.EFAULT, "read the source's memory map", pid, new PageRange(at, range.End), "nothing is mapped at the start of this range");
        return new SourcePlan(range, pieces, parts, readable, exact);
    }

    private static void Refuse(int pid, PageRange part, SmapsEntry entry)
    {
        string? reason = (entry.Vma, entry.Flags) switch
        {
            ({ IsSpecial: true }, _) => "it belongs to the kernel",
            (_, var flags) when (flags & Unusual) != 0 => "it maps device memory or raw page frames",
            (_, var flags) when flags.HasFlag(VmFlags.HugeTlb) => "it is hugetlb memory, not private anonymous",
            (_, var flags) when flags.HasFlag(VmFlags.Droppable) => "its pages may vanish at any time (MAP_DROPPABLE)",
            ({ Shared: true }, _) => "it is shared memory, not private anonymous",
            ({ IsFileBacked: true }, _) => "it maps a file, not private anonymous memory",
            _ => null,
        };
        if (reason is not null)
            throw new PvmmapException(Errno.EFAULT, "read the source's memory map", pid, part, $"{entry.Vma}: {reason}; only private anonymous memory can be taken");
    }
}
