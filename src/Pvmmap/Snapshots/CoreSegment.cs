using Pvmmap.Linux;

namespace Pvmmap.Snapshots;

/// <summary>A mapping as it goes into a core dump.</summary>
/// <param name="Mapping">The mapping.</param>
/// <param name="FileBytes">Bytes from its start that are in the file; the rest is only told of.</param>
/// <param name="Extents">What of these bytes is to be read, ascending; between them is memory that was never touched and reads as zeros.</param>
internal sealed record CoreSegment(SnapshotRange Mapping, ulong FileBytes, IReadOnlyList<PageRange> Extents)
{
    public PageRange Range => Mapping.Range;

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
            PageRange[] extents = bytes == 0 ? [] : IsSparse(mapping) ? Touched(source, content) : [content];
            // A reserve of addresses, which may be larger than any disk: nothing is there, and the process itself could not read it.
            if (extents.Length == 0 && mapping.Permissions.StartsWith("---", StringComparison.Ordinal)) bytes = 0;
            segments.Add(new CoreSegment(mapping, bytes, extents));
        }
        return (segments, missing);
    }

    // All of it is in the snapshot, so that what is not there reads as zeros; a file's pages may be in the file only.
    private static bool IsSparse(SnapshotRange mapping) => mapping is { Content: SnapshotContent.Taken } and not { Name: "[vdso]" };

    /// <summary>What has content, and what was lost before the snapshot: not to be taken for zeros.</summary>
    private static PageRange[] Touched(ICoreSource source, PageRange range)
    {
        var touched = new List<PageRange>();
        foreach (PageRange run in source.Populated(range).Concat(source.Unreadable.Select(range.Intersect)).Where(run => run.Length != 0).OrderBy(run => run.Start))
        {
            if (touched.Count != 0 && run.Start <= touched[^1].End) touched[^1] = new(touched[^1].Start, Math.Max(run.End, touched[^1].End));
            else touched.Add(run);
        }
        return [.. touched];
    }

    private static ulong Bytes(ICoreSource source, SnapshotRange mapping, CoreFilter filter, bool includeDontDump)
    {
        ulong whole = mapping.Range.Length;
        ulong If(CoreFilter kind) => (filter & kind) != 0 ? whole : 0;

        if (mapping.Name == "[vdso]") return whole;
        if (mapping is { IsFileBacked: false, Name: "[vsyscall]" or "[uprobes]" } || mapping.Name.StartsWith("[vvar", StringComparison.Ordinal)) return 0;
        if (Has(mapping, "dd") && !includeDontDump) return 0;
        if (Has(mapping, "sf")) return If(mapping.IsShared ? CoreFilter.DaxShared : CoreFilter.DaxPrivate);
        if (Has(mapping, "ht")) return If(mapping.IsShared ? CoreFilter.HugeTlbShared : CoreFilter.HugeTlbPrivate);
        if (Has(mapping, "io")) return 0;
        if (mapping.IsShared) return If(HasNoName(mapping) ? CoreFilter.AnonymousShared : CoreFilter.MappedShared);
        if (!mapping.IsFileBacked) return If(CoreFilter.AnonymousPrivate);
        if ((filter & CoreFilter.MappedPrivate) != 0) return whole;
        if (mapping.Content == SnapshotContent.Absent) return 0;
        if ((filter & CoreFilter.AnonymousPrivate) != 0 && source.Populated(mapping.Range).Any()) return whole;
        return (filter & CoreFilter.ElfHeaders) != 0 && BeginsWithElf(source, mapping) ? PageRange.PageSize : 0;
    }

    // Codes of two letters with blanks between them: no other place can hold two letters.
    private static bool Has(SnapshotRange mapping, string code) => mapping.Flags.Contains(code, StringComparison.Ordinal);

    // The kernel looks at the number of links: a deleted file and a memfd have none.
    private static bool HasNoName(SnapshotRange mapping) =>
        !mapping.IsFileBacked || mapping.Name.EndsWith(" (deleted)", StringComparison.Ordinal)
        || mapping.Name.StartsWith("[anon_shmem:", StringComparison.Ordinal);

    private static bool BeginsWithElf(ICoreSource source, SnapshotRange mapping)
    {
        if (mapping.Offset != 0 || !mapping.IsReadable) return false;
        Span<byte> start = stackalloc byte[Elf.Magic.Length];
        return source.ReadSome(mapping.Range.Start, start) == start.Length && start.SequenceEqual(Elf.Magic);
    }
}
