namespace Pvmmap.ConformanceTests.Soak;

/// <summary>What a process's mappings must look like: extents that do not overlap, in order of addresses.</summary>
internal sealed class MemoryModel
{
    private readonly List<Extent> _extents = [];

    public MemoryModel()
    {
    }

    /// <summary>What a child has after fork().</summary>
    public MemoryModel(MemoryModel parent) => _extents.AddRange(parent._extents);

    public IReadOnlyList<Extent> All => _extents;

    public ulong Bytes => _extents.Aggregate(0UL, (sum, extent) => sum + extent.Range.Length);

    /// <summary>Maximal ranges without a hole.</summary>
    public List<PageRange> Islands
    {
        get
        {
            List<PageRange> islands = [];
            foreach (Extent extent in _extents)
            {
                if (islands.Count > 0 && islands[^1].End == extent.Range.Start) islands[^1] = new PageRange(islands[^1].Start, extent.Range.End);
                else islands.Add(extent.Range);
            }
            return islands;
        }
    }

    public List<Extent> Within(PageRange range) =>
        [.. _extents.Where(extent => extent.Range.Overlaps(range)).Select(extent => extent.Clip(range))];

    public void Clear(PageRange range)
    {
        for (int i = 0; i < _extents.Count; i++)
        {
            Extent extent = _extents[i];
            if (!extent.Range.Overlaps(range)) continue;
            _extents.RemoveAt(i--);
            if (extent.Range.Start < range.Start) _extents.Insert(++i, extent.Clip(new PageRange(extent.Range.Start, range.Start)));
            if (extent.Range.End > range.End) _extents.Insert(++i, extent.Clip(new PageRange(range.End, extent.Range.End)));
        }
    }

    /// <summary>In place of what was there.</summary>
    public void Set(params IReadOnlyList<Extent> extents)
    {
        foreach (Extent extent in extents)
        {
            Clear(extent.Range);
            int at = _extents.FindIndex(other => other.Range.Start > extent.Range.Start);
            _extents.Insert(at < 0 ? _extents.Count : at, extent);
        }
    }

    public void Change(PageRange range, Func<Extent, Extent> change) => Set([.. Within(range).Select(change)]);
}
