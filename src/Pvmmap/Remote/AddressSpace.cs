using Pvmmap.Linux;
using Pvmmap.Procfs;

namespace Pvmmap.Remote;

/// <summary>Free room in an address space.</summary>
internal static class AddressSpace
{
    /// <summary>Left free around what we place, so that it never merges with, or blocks, a neighbour that grows.</summary>
    private const ulong Margin = 16 * PageRange.PageSize;

    private const ulong WideGap = 1UL << 40;

    /// <summary>How often to look for another gap when a running thread has taken the one found.</summary>
    public const int Attempts = 16;

    /// <summary>As the other, at the same distance from a multiple of <paramref name="alignment"/>, a power of two, as <paramref name="alike"/> is.</summary>
    public static ulong FindGap(MapsFile maps, ulong length, PageRange avoid, ulong alignment, ulong alike)
    {
        ulong at = FindGap(maps, length + alignment - PageRange.PageSize, avoid);
        return at + ((alike - at) & (alignment - 1));
    }

    /// <summary>An address with <paramref name="length"/> free bytes, clear of <paramref name="avoid"/>, near the top as mmap(2) would choose.</summary>
    public static ulong FindGap(MapsFile maps, ulong length, PageRange avoid)
    {
        if (TryWideGap(maps, length, avoid, out ulong at)) return at;
        IReadOnlyList<Vma> all = maps.All;
        if (all.Count == 0) throw new PvmmapException(Errno.ESRCH, "find room in the address space", hint: "it is exiting");
        for (int i = all.Count - 1; i >= 0; i--)
        {
            // The room below the stack is the stack's to grow into.
            if (all[i].IsStack || all[i].Range.Start >= Processor.AddressSpaceEnd) continue;
            if (Fits(i == 0 ? 0x10000 : all[i - 1].Range.End, all[i].Range.Start, length, avoid, out at)) return at;
        }
        throw new PvmmapException(Errno.ENOMEM, "find room in the address space", hint: "no gap is large enough");
    }

    /// <summary>
    /// The same at a place where no program has anything that has just begun, and none is likely to map anything: far from the top, where mmap(2) chooses, and from the bottom.
    /// False if there is something all the same, and where the address space is too small for that.
    /// </summary>
    public static bool TryFindRemoteGap(MapsFile maps, ulong length, PageRange avoid, ulong alignment, ulong alike, out ulong at)
    {
        // From a half to five eighths: position-independent programs begin at two thirds, runtimes have their heaps and AddressSanitizer its shadow at the bottom, and what
        // MemorySanitizer has there cannot be accessed (compiler-rt, msan.h).
        ulong unit = Processor.AddressSpaceEnd / 8, floor = 4 * unit, room = unit;
        at = 0;
        if (room < WideGap || length + alignment + (2 * Margin) > room) return false;
        ulong start = (floor + (ulong)Random.Shared.NextInt64((long)(room - length - alignment - Margin))) & ~(alignment - 1);
        at = start + (alike & (alignment - 1));
        if (avoid.Overlaps(new PageRange(at, at + length))) return false;
        return maps.FindRangeFrom(at - Margin) is not { } next || next.Start >= at + length + Margin;
    }

    // The hole between the program with its heap, which grows up, and what is mapped from the top down: a few VMAs from the bottom.
    private static bool TryWideGap(MapsFile maps, ulong length, PageRange avoid, out ulong at)
    {
        const int looks = 16;
        at = 0;
        // The heap may have grown since: then it is the first that is found.
        ulong floor = maps.HoleStart;
        for (int look = 0; look < looks && maps.FindRangeFrom(floor) is { } next && next.Start < Processor.AddressSpaceEnd; look++)
        {
            if (floor != 0 && next.Start > floor && next.Start - floor >= WideGap && Fits(floor, next.Start, length, avoid, out at))
            {
                maps.HoleStart = floor;
                return maps.FindFrom(next.Start) is { IsStack: false };
            }
            floor = next.End;
        }
        return false;
    }

    private static bool Fits(ulong floor, ulong end, ulong length, PageRange avoid, out ulong at)
    {
        if (end > avoid.Start && floor < avoid.End)
        {
            // Above what is to be avoided, else below it.
            if (Fits(Math.Max(floor, avoid.End), end, length, out at)) return true;
            end = avoid.Start;
        }
        return Fits(floor, end, length, out at);
    }

    private static bool Fits(ulong floor, ulong end, ulong length, out ulong at)
    {
        at = 0;
        if (end <= floor || end - floor < length + 2 * Margin) return false;
        at = end - Margin - length;
        return true;
    }
}
