namespace Pvmmap;

/// <summary>A half-open range of whole pages, <c>[Start, End)</c>, in some process's address space.</summary>
/// <param name="Start">First byte, a multiple of the page size.</param>
/// <param name="End">One past the last byte, a multiple of the page size.</param>
public readonly record struct PageRange(ulong Start, ulong End)
{
    /// <summary>Bytes in a page. The call's unit; x86-64 and the arm64 kernels of the common distributions use 4 KiB.</summary>
    public const ulong PageSize = 4096;

    /// <summary>Length in bytes.</summary>
    public ulong Length => End - Start;

    /// <summary>True if the two ranges share at least one byte.</summary>
    public bool Overlaps(PageRange other) => Start < other.End && other.Start < End;

    /// <summary>True if every byte of <paramref name="other"/> lies in this range.</summary>
    public bool Contains(PageRange other) => Start <= other.Start && other.End <= End;

    /// <summary>The part that both ranges share; an empty range when there is none.</summary>
    public PageRange Intersect(PageRange other)
    {
        ulong start = Math.Max(Start, other.Start), end = Math.Min(End, other.End);
        return start < end ? new PageRange(start, end) : new PageRange(start, start);
    }

    /// <summary>The range of <paramref name="length"/> bytes at <paramref name="address"/>, rounded outward to whole pages.</summary>
    /// <returns>false if the length is 0 or the range wraps around the end of the address space.</returns>
    public static bool TryRoundOutward(ulong address, ulong length, out PageRange range)
    {
        range = default;
        if (length == 0) return false;
        ulong last = unchecked(address + length - 1);
        if (last < address || last > ulong.MaxValue - PageSize) return false;
        range = new PageRange(address & ~(PageSize - 1), (last | (PageSize - 1)) + 1);
        return true;
    }

    /// <inheritdoc/>
    public override string ToString() => $"{Start:x}-{End:x}";
}
