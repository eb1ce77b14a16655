namespace Pvmmap.Holder.Freestanding;

/// <summary>
/// The segments of the control page. The guardian may take over at any instant, so at every instant the entries together cover all that is
/// owed: new entries are published before old ones shrink. Overlaps do no harm.
/// </summary>
internal static unsafe class SegmentTable
{
    public const uint Content = 0;
    public const uint Zero = 1;
    public const uint Poison = 2;
    public const uint Vacated = ControlSegment.NotOurs;
    /// <summary>With one of the others: it is no longer there, and where it is will be known only when its own event comes.</summary>
    public const uint Parked = 4;

    /// <summary>Entries kept for pieces that no longer fit: they become <see cref="Poison"/> entries and are free again once poisoned.</summary>
    public const uint Reserve = 64;

    /// <summary>The entry of a context that holds this address, or null.</summary>
    public static ControlSegment* Find(Service* service, uint context, ulong address)
    {
        ControlSegment* segment = service->Segments;
        ControlSegment* end = segment + service->Control->SegmentCount;
        for (; segment < end; segment++)
        {
            if (address - segment->Destination < segment->Length && segment->Context == context && !IsParked(segment->Zero))
                return segment;
        }
        return null;
    }

    /// <summary>False when the table is full.</summary>
    public static bool Add(Service* service, uint context, ulong destination, ulong source, ulong length, uint kind)
    {
        return AddBelow(service, (kind & ~Parked) == Poison ? service->SegmentLimit : service->SegmentLimit - Reserve, context, destination, source, length, kind);
    }

    private static bool AddBelow(Service* service, uint limit, uint context, ulong destination, ulong source, ulong length, uint kind)
    {
        uint index = service->FirstFree;
        while (index < service->Control->SegmentCount && service->Segments[index].Length != 0)
            index++;
        service->FirstFree = index;
        if (index >= limit)
            return false;
        ControlSegment* segment = service->Segments + index;
        segment->Destination = destination;
        segment->Source = source;
        segment->Context = context;
        segment->Zero = kind;
        Published.Write(&segment->Length, length);
        if (index >= service->Control->SegmentCount)
            Published.Write(&service->Control->SegmentCount, index + 1);
        return true;
    }

    /// <summary>Like <see cref="Add"/>, but what does not fit is marked to be poisoned, so that it never reads as zeros.</summary>
    public static bool AddOrPoison(Service* service, uint context, ulong destination, ulong source, ulong length, uint kind)
    {
        if (Add(service, context, destination, source, length, kind))
            return true;
        AddPoison(service, context, destination, length, kind & Parked);
        return false;
    }

    public static void AddPoison(Service* service, uint context, ulong destination, ulong length, uint parked = 0)
    {
        if (!Add(service, context, destination, 0, length, Poison | parked))
            Published.Write(&service->Control->Withheld, 1);
    }

    /// <summary>Zero-filled pages, joined to an entry next to them where there is one: programs often drop page after page.</summary>
    public static bool AddZero(Service* service, uint context, ulong start, ulong end, uint kind)
    {
        for (uint i = 0; i < service->Control->SegmentCount; i++)
        {
            ControlSegment* segment = service->Segments + i;
            if (segment->Length == 0 || segment->Zero != kind || segment->Context != context)
                continue;
            ulong segmentEnd = segment->Destination + segment->Length;
            if (start > segmentEnd || end < segment->Destination)
                continue;
            ulong first = start < segment->Destination ? start : segment->Destination;
            ulong last = end > segmentEnd ? end : segmentEnd;
            if (first == segment->Destination)
                Published.Write(&segment->Length, last - first);
            else if (AddBelow(service, service->SegmentLimit, context, first, 0, last - first, kind))
                Free(service, i);
            else
            {
                Published.Write(&segment->Destination, first);
                Published.Write(&segment->Length, last - first);
            }
            return true;
        }
        return Add(service, context, start, 0, end - start, kind);
    }

    /// <summary>Whether a page of this kind reads as zeros if nobody delivers it.</summary>
    public static bool IsZero(uint kind) => kind == Zero || kind == Vacated;

    public static bool IsParked(uint kind) => (kind & Parked) != 0;

    /// <summary>Whether anything of a context is parked.</summary>
    public static bool HasParked(Service* service, uint context)
    {
        for (uint i = 0; i < service->Control->SegmentCount; i++)
        {
            ControlSegment* segment = service->Segments + i;
            if (segment->Length != 0 && IsParked(segment->Zero) && segment->Context == context)
                return true;
        }
        return false;
    }

    public static void Free(Service* service, uint index)
    {
        Published.Write(&service->Segments[index].Length, 0);
        if (index < service->FirstFree)
            service->FirstFree = index;
    }

    /// <summary>
    /// Takes [start, end), which the entry must contain, out of it. When it lies in the middle and there is no room for the rest, then the
    /// entry stays as it is if that <paramref name="mayStay"/> (and the result is false), or else the rest is marked to be poisoned.
    /// </summary>
    public static bool Cut(Service* service, uint index, ulong start, ulong end, bool mayStay)
    {
        ControlSegment* segment = service->Segments + index;
        ulong segmentEnd = segment->Destination + segment->Length;
        if (start == segment->Destination && end == segmentEnd)
            Free(service, index);
        // One store takes it out. The entry more is one only for a moment: any will do.
        else if (start == segment->Destination
            && AddBelow(service, service->SegmentLimit, segment->Context, end, segment->Source + (end - start), segmentEnd - end, segment->Zero))
            Free(service, index);
        else if (start == segment->Destination)
        {
            // No entry at all is free. In this order it covers too much for a moment, never too little; who takes over right then finds the wrong source.
            ulong removed = end - start;
            Published.Write(&segment->Destination, end);
            Published.Write(&segment->Source, segment->Source + removed);
            Published.Write(&segment->Length, segmentEnd - end);
        }
        else
        {
            ulong restSource = segment->Source + (end - segment->Destination);
            if (end < segmentEnd && !Add(service, segment->Context, end, restSource, segmentEnd - end, segment->Zero))
            {
                if (mayStay)
                {
                    Published.Write(&service->Contexts[segment->Context].IsInexact, 1);
                    return false;
                }
                AddPoison(service, segment->Context, end, segmentEnd - end, segment->Zero & Parked);
            }
            Published.Write(&segment->Length, start - segment->Destination);
        }
        return true;
    }

    /// <summary>Whether anything is owed to a context.</summary>
    public static bool HasContent(Service* service, uint context)
    {
        for (uint i = 0; i < service->Control->SegmentCount; i++)
        {
            ControlSegment* segment = service->Segments + i;
            if (segment->Length != 0 && segment->Zero == Content && segment->Context == context)
                return true;
        }
        return false;
    }

    // The entry of a context whose source content comes first at or behind an address; null when none does before the end.
    private static ControlSegment* NextContent(Service* service, uint context, ulong source, ulong end)
    {
        ControlSegment* next = null;
        ulong nextStart = end;
        for (uint i = 0; i < service->Control->SegmentCount; i++)
        {
            ControlSegment* segment = service->Segments + i;
            if (segment->Length == 0 || segment->Zero != Content || segment->Context != context)
                continue;
            ulong start = segment->Source > source ? segment->Source : source;
            if (start >= nextStart || start >= segment->Source + segment->Length)
                continue;
            next = segment;
            nextStart = start;
        }
        return next;
    }

    /// <summary>
    /// What a context is owed first at or behind a source address, which moves there: to where in its memory, and up to which source address. False when it is nothing
    /// before the end.
    /// </summary>
    public static bool NextPiece(Service* service, uint context, ulong* source, ulong end, out ulong destination, out ulong pieceEnd)
    {
        destination = 0;
        pieceEnd = 0;
        ControlSegment* segment = NextContent(service, context, *source, end);
        if (segment == null)
            return false;
        if (*source < segment->Source)
            *source = segment->Source;
        destination = segment->Destination + (*source - segment->Source);
        ulong segmentEnd = segment->Source + segment->Length;
        pieceEnd = end < segmentEnd ? end : segmentEnd;
        return true;
    }

    /// <summary>Whether any live context still has to get this source page; if not, <paramref name="next"/> is where the next owed one may be.</summary>
    public static bool IsOwed(Service* service, ulong source, ulong end, out ulong next)
    {
        next = end;
        for (uint i = 0; i < service->Control->SegmentCount; i++)
        {
            ControlSegment* segment = service->Segments + i;
            if (segment->Length == 0 || (segment->Zero & ~Parked) != Content)
                continue;
            if (source - segment->Source < segment->Length)
            {
                next = segment->Source + segment->Length;
                return true;
            }
            if (segment->Source > source && segment->Source < next)
                next = segment->Source;
        }
        return false;
    }
}
