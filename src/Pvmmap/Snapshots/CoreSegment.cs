using Pvmmap.Linux;

namespace Pvmmap.Snapshots;

/// <summary>A mapping as it goes into a core dump.</summary>
/// <param name="Mapping">The mapping.</param>
/// <param name="Parts">What of it is in the file, ascending; the rest is only told of, and reads as zeros if it is memory that was never touched.</param>
/// <param name="Extents">What of these parts is to be read, ascending; between them is memory that was never touched and reads as zeros.</param>
/// <param name="Lost">Pages that nobody can read, ascending, not adjacent: the file does not tell of them.</param>
internal sealed record CoreSegment(SnapshotRange Mapping, IReadOnlyList<PageRange> Parts, IReadOnlyList<PageRange> Extents, IReadOnlyList<PageRange> Lost)
{
    /// <summary>
    /// Bytes of memory that was never touched from which on it has no place in the file: there may be more of it than a file system can count, and a pipe
    /// gets zeros for all that has. Less of it has, for readers that know nothing of memory without content.
    /// </summary>
    public const ulong LeastGap = 1UL << 30;

    // More than a memory error takes from a file in one piece.
    private const ulong PagesBehindEnd = 4096;

    public PageRange Range => Mapping.Range;

    /// <summary>Bytes of it that are in the file.</summary>
    public ulong FileBytes => Parts.Aggregate(0UL, (sum, part) => sum + part.Length);

    /// <summary>What the file tells of it.</summary>
    public IEnumerable<PageRange> Told => RangeSet.Without(Range, Lost);

    /// <summary>The segments of a snapshot, one for each mapping, and the mappings that should have one and are not in the snapshot.</summary>
    /// <remarks>The choice is that of vma_dump_size() in fs/coredump.c, but for what no program could read: [vvar] and [vsyscall] have no content here.</remarks>
    public static (IReadOnlyList<CoreSegment> Segments, IReadOnlyList<SnapshotRange> Missing) Choose(ICoreSource source, CoreFilter filter, bool includeDontDump)
    {
        var segments = new List<CoreSegment>();
        var missing = new List<SnapshotRange>();
        foreach (SnapshotRange mapping in source.Ranges)
        {
            ulong bytes = Bytes(source, mapping, filter, includeDontDump);
            if (bytes != 0 && mapping.Content == SnapshotContent.Absent)
            {
                // No segment: gdb takes one without content for zeros.
                missing.Add(mapping);
                continue;
            }
            PageRange content = new(mapping.Range.Start, mapping.Range.Start + bytes);
            segments.Add(bytes == 0 ? new CoreSegment(mapping, [], [], []) : IsSparse(mapping) ? OfMemory(source, mapping, content) : OfFile(source, mapping, content));
        }
        return (segments, missing);
    }

    // All of it is in the snapshot, so that what is not there reads as zeros; a file's pages may be in the file only.
    private static bool IsSparse(SnapshotRange mapping) => mapping is { Content: SnapshotContent.Taken } and not { Name: "[vdso]" };

    private static bool IsHidden(SnapshotRange mapping) => mapping.Permissions.StartsWith("---", StringComparison.Ordinal);

    private static CoreSegment OfMemory(ICoreSource source, SnapshotRange mapping, PageRange content)
    {
        IReadOnlyList<PageRange> touched = RangeSet.Joined(source.Populated(content)), lost = RangeSet.Joined(source.Unreadable.Select(content.Intersect));
        // A reserve of addresses: nothing is there, and the process itself could not read it.
        if (touched.Count == 0 && lost.Count == 0 && IsHidden(mapping)) return new CoreSegment(mapping, [], [], []);
        PageRange[] extents = lost.Count == 0 ? [.. touched] : [.. touched.SelectMany(run => RangeSet.Without(run, lost))];
        return new CoreSegment(mapping, [.. RangeSet.Without(content, lost).SelectMany(piece => Dense(piece, extents.Where(piece.Overlaps)))], extents, lost);
    }

    /// <summary>A piece of memory without the stretches that are long and were never touched.</summary>
    private static IEnumerable<PageRange> Dense(PageRange piece, IEnumerable<PageRange> extents)
    {
        PageRange part = new(piece.Start, piece.Start);
        foreach (PageRange extent in extents)
        {
            if (extent.Start - part.End >= LeastGap)
            {
                if (part.Length != 0) yield return part;
                part = extent;
            }
            part = new(part.Start, extent.End);
        }
        if (piece.End - part.End < LeastGap) part = new(part.Start, piece.End);
        if (part.Length != 0) yield return part;
    }

    private static CoreSegment OfFile(ICoreSource source, SnapshotRange mapping, PageRange content)
    {
        // As a reserve: the runtime of .NET has such a page of a file of length 0.
        if (IsHidden(mapping) && !source.Populated(content).Any()) return new CoreSegment(mapping, [], [], []);
        PageRange[] lost = [.. BehindEnd(source, content)], parts = [.. RangeSet.Without(content, lost)];
        return new CoreSegment(mapping, parts, parts, lost);
    }

    /// <summary>Where the file of a mapping has ended before the mapping does: found before the headers are written, which a pipe does not give back.</summary>
    private static IEnumerable<PageRange> BehindEnd(ICoreSource source, PageRange content)
    {
        bool Reads(ulong page) => source.ReadSome(page, stackalloc byte[1]) == 1;

        ulong first = content.Start, lost = content.End - PageRange.PageSize;
        if (Reads(lost)) yield break;
        while (first < lost)
        {
            ulong middle = first + ((lost - first) / 2 & ~(PageRange.PageSize - 1));
            if (Reads(middle)) first = middle + PageRange.PageSize;
            else lost = middle;
        }
        // A memory error in the middle of a file: each page is tried when it is its turn.
        for (ulong page = lost; page < content.End && page < lost + (PagesBehindEnd * PageRange.PageSize); page += PageRange.PageSize)
        {
            if (Reads(page)) yield break;
        }
        yield return new(lost, content.End);
    }

    private static ulong Bytes(ICoreSource source, SnapshotRange mapping, CoreFilter filter, bool includeDontDump)
    {
        ulong whole = mapping.Range.Length;
        ulong If(CoreFilter kind) => (filter & kind) != 0 ? whole : 0;

        if (mapping.Name == "[vdso]") return whole;
        if (mapping is { IsFileBacked: false, Name: "[vsyscall]" or "[uprobes]" } || mapping.Name.StartsWith("[vvar", StringComparison.Ordinal)) return 0;
        bool Has(string code) => CoreFilters.Has(mapping.Flags, code);
        if (Has("dd") && !includeDontDump) return 0;
        if (mapping.IsShared)
            return If(CoreFilters.OfShared(mapping.Flags, mapping.IsFileBacked, mapping.Name) | (mapping.Content == SnapshotContent.File ? CoreFilters.ReadOnlyShared : CoreFilter.None));
        if (Has("sf")) return If(CoreFilter.DaxPrivate);
        if (Has("ht")) return If(CoreFilter.HugeTlbPrivate);
        if (Has("io")) return 0;
        if (!mapping.IsFileBacked) return If(CoreFilter.AnonymousPrivate);
        if ((filter & CoreFilter.MappedPrivate) != 0) return whole;
        if (mapping.Content == SnapshotContent.Absent) return 0;
        if ((filter & CoreFilter.AnonymousPrivate) != 0 && source.Populated(mapping.Range).Any()) return whole;
        return (filter & CoreFilter.ElfHeaders) != 0 && BeginsWithElf(source, mapping) ? PageRange.PageSize : 0;
    }

    private static bool BeginsWithElf(ICoreSource source, SnapshotRange mapping)
    {
        if (mapping.Offset != 0 || !mapping.IsReadable) return false;
        Span<byte> start = stackalloc byte[Elf.Magic.Length];
        return source.ReadSome(mapping.Range.Start, start) == start.Length && start.SequenceEqual(Elf.Magic);
    }
}
