using Pvmmap.Linux;
using Pvmmap.Procfs;

namespace Pvmmap.Remote;

/// <summary>Free room in an address space.</summary>
internal static class AddressSpace
{
    /// <summary>Left free around what we place, so that it never merges with, or blocks, a neighbour that grows.</summary>
    private const ulong Margin = 16 * PageRange.PageSize;

    /// <summary>How often to look for another gap when a running thread has taken the one found.</summary>
    public const int Attempts = 16;

    /// <summary>An address with <paramref name="length"/> free bytes, clear of <paramref name="avoid"/>, near the top as mmap(2) would choose.</summary>
    public static ulong FindGap(IReadOnlyList<Vma> maps, ulong length, PageRange avoid)
    {
        for (int i = maps.Count - 1; i >= 0; i--)
        {
            // The room below the stack is the stack's to grow into.
            if (maps[i].IsStack || maps[i].Range.Start >= Memory.AddressSpaceEnd) continue;
            ulong floor = i == 0 ? 0x10000 : maps[i - 1].Range.End;
            ulong end = maps[i].Range.Start;
            if (end > avoid.Start && floor < avoid.End)
            {
                // Above what is to be avoided, else below it.
                if (Fits(Math.Max(floor, avoid.End), end, length, out ulong above)) return above;
                end = avoid.Start;
            }
            if (Fits(floor, end, length, out ulong at)) return at;
        }
        throw new PvmmapException(Errno.ENOMEM, "find room in the address space", hint: "no gap is large enough");
    }

    private static bool Fits(ulong floor, ulong end, ulong length, out ulong at)
    {
        at = 0;
        if (end <= floor || end - floor < length + 2 * Margin) return false;
        at = end - Margin - length;
        return true;
    }
}
