using Microsoft.Diagnostics.Runtime;

namespace Pvmmap.Diagnostics;

/// <summary>
/// A walk from the first object of each segment to the last. Objects lie one behind the other, so that a walk that comes out exactly where the segment ends has
/// seen them all; one that meets an object that is only half made, or memory that a thread is about to make objects in, does not.
/// </summary>
internal static class HeapWalk
{
    /// <summary>The smallest object, which also ends each piece of memory that a thread allocates from.</summary>
    private const ulong MinimumSize = 24;

    /// <summary>Why the heap cannot be walked, as part of a sentence; null if it can.</summary>
    public static string? FindFault(ClrHeap heap) => Walk(heap, _ => { });

    /// <summary>Shows every object, free ones included, up to the first fault.</summary>
    /// <returns>The fault, as part of a sentence; null if there is none.</returns>
    public static string? Walk(ClrHeap heap, Action<ClrObject> see)
    {
        if (!heap.CanWalkHeap) return "a garbage collection was moving objects";
        if (heap.Segments.Length == 0) return "the heap was not there yet";
        Dictionary<ulong, ulong> contexts = [];
        foreach (MemoryRange context in heap.EnumerateAllocationContexts()) contexts[context.Start] = context.End;
        foreach (ClrSegment segment in heap.Segments)
        {
            ulong next = segment.FirstObjectAddress;
            foreach (ClrObject item in segment.EnumerateObjects())
            {
                if (!item.IsValid) return $"the object at 0x{item.Address:x} was being made";
                next = item.Address + ((item.Size + 7) & ~7UL);
                if (next > segment.ObjectRange.End) return $"the object at 0x{item.Address:x} was being made: it ends behind its segment";
                see(item);
            }

            // behind a segment's last object a thread may have memory to make objects in
            while (contexts.TryGetValue(next, out ulong limit) && limit + MinimumSize > next) next = limit + MinimumSize;
            if (next != segment.ObjectRange.End) return $"the objects of the segment at 0x{segment.Start:x} end at 0x{next:x}, not at its end, 0x{segment.ObjectRange.End:x}";
        }

        return null;
    }
}
