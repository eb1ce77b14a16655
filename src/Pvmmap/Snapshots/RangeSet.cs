namespace Pvmmap.Snapshots;

/// <summary>Sets of pages, as ranges.</summary>
internal static class RangeSet
{
    /// <summary>Ranges in order, those that touch or overlap joined.</summary>
    public static IReadOnlyList<PageRange> Joined(IEnumerable<PageRange> ranges)
    {
        var joined = new List<PageRange>();
        foreach (PageRange range in ranges.Where(range => range.Length != 0).OrderBy(range => range.Start))
        {
            if (joined.Count != 0 && range.Start <= joined[^1].End) joined[^1] = new(joined[^1].Start, Math.Max(range.End, joined[^1].End));
            else joined.Add(range);
        }
        return joined;
    }

    /// <summary>What is left of a range.</summary>
    /// <param name="range">The range.</param>
    /// <param name="holes">Ascending.</param>
    public static IEnumerable<PageRange> Without(PageRange range, IEnumerable<PageRange> holes)
    {
        ulong at = range.Start;
        foreach (PageRange hole in holes.Where(range.Overlaps))
        {
            if (hole.Start > at) yield return new(at, hole.Start);
            at = hole.End;
        }
        if (at < range.End) yield return new(at, range.End);
    }
}
