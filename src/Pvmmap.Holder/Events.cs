namespace Pvmmap.Holder.Freestanding;

/// <summary>What the targets do to their regions meanwhile, read from their userfaultfds and applied to the segments.</summary>
internal static unsafe class Events
{
    private const uint StrangerAttempts = 1000;

    /// <summary>
    /// Reads a context's messages until there is none, applies the events and hands the faults to <paramref name="faults"/> (none in the
    /// guardian). Returns how many messages there were.
    /// </summary>
    public static uint Drain(Service* service, uint context, bool faults)
    {
        uint total = 0;
        while (Service.IsAlive(service, context))
        {
            Published.Write(&service->Control->MessageContext, context);
            long bytes = Read(service, context);
            // Whoever forks goes on only when its event is read, which takes a descriptor: dead children have some.
            if (IsShortage(bytes))
            {
                Loop.EndDeadContexts(service);
                if (!Service.IsAlive(service, context))
                    break;
                bytes = Read(service, context);
            }
            if (IsShortage(bytes))
                Loop.TryLater(service, context);
            if (bytes <= 0)
                break;
            uint count = (uint)bytes / (uint)sizeof(UserfaultMessage);
            total += count;
            Apply(service, context, count);
            // The kernel hands out faults before events. A fault at an address that one of these events brought is answered after it.
            for (uint i = 0; i < count; i++)
            {
                UserfaultMessage* message = service->Messages + i;
                if (message->Event == Userfaultfd.EventPagefault && faults && Service.IsAlive(service, context))
                {
                    Steps.Reached(service->Call, FillStep.FaultRead);
                    Faults.Serve(service, context, message->To);
                }
                Published.Write(&message->Event, 0);
            }
            if (count < ControlPage.MaximumMessages)
                break;
        }
        return total;
    }

    private static long Read(Service* service, uint context) => Kernel.Read(
        service->Call, service->Contexts[context].Fd, service->Messages, ControlPage.MaximumMessages * sizeof(UserfaultMessage));

    private static bool IsShortage(long read) => read == Kernel.EMFILE || read == Kernel.ENFILE || read == Kernel.ENOMEM;

    /// <summary>Applies the events among the first <paramref name="count"/> messages of the buffer, in the order they came.</summary>
    public static void Apply(Service* service, uint context, uint count)
    {
        for (uint i = 0; i < count; i++)
        {
            UserfaultMessage* message = service->Messages + i;
            byte kind = message->Event;
            if (kind == 0 || kind == Userfaultfd.EventPagefault)
                continue;
            // The sentinel has not the source's memory: the pages stay there, and the target's are poisoned.
            if (service->IsSentinel && Relocation.IsAwaited(service) && Relocation.IsCommit(service, message))
            {
                service->Announced = message->Event == Userfaultfd.EventRemove;
                Relocation.Consume(message);
                if (message->Event == 0)
                    continue;
            }
            else if (Relocation.IsAwaited(service) && Relocation.IsCommit(service, message))
            {
                Steps.Reached(service->Call, FillStep.CommitRead);
                Published.Write(&service->Control->Committed, 1);
                Steps.Reached(service->Call, FillStep.CommitWritten);
                Relocation.Consume(message);
                Relocation.Commit(service);
                if (message->Event == 0)
                    continue;
            }
            Act(service, context, message);
            Published.Write(&message->Event, 0);
        }
    }

    private static void Act(Service* service, uint context, UserfaultMessage* message)
    {
        KernelEntry call = service->Call;
        DeliveredPages.Drop(service);
        service->AroundBytes = 0;
        if (message->Event == Userfaultfd.EventFork)
        {
            Steps.Reached(call, FillStep.ForkRead);
            Fork(service, context, (int)message->Descriptor);
            Steps.Reached(call, FillStep.ForkApplied);
        }
        else if (message->Event == Userfaultfd.EventRemap)
        {
            Steps.Reached(call, FillStep.RemapRead);
            Remap(service, context, message);
            Steps.Reached(call, FillStep.RemapApplied);
        }
        else if (message->Event == Userfaultfd.EventRemove)
        {
            Steps.Reached(call, FillStep.RemoveRead);
            Remove(service, context, message->From, message->To);
            Steps.Reached(call, FillStep.RemoveApplied);
        }
        else if (message->Event == Userfaultfd.EventUnmap)
        {
            Steps.Reached(call, FillStep.UnmapRead);
            Unmap(service, context, message);
            Steps.Reached(call, FillStep.UnmapApplied);
        }
    }

    private static void Unmap(Service* service, uint context, UserfaultMessage* message)
    {
        service->Control->Unmaps++;
        if (LateUnmaps.Take(service, context, message))
            return;
        // What stays for want of room does no harm: nothing is mapped there, so the copy says ENOENT.
        Discard(service, context, message->From, message->To, mayStay: true);
    }

    /// <summary>Takes from the context's segments what mremap() has left there, and nothing else.</summary>
    public static void DiscardVacated(Service* service, uint context, ulong start, ulong end)
    {
        for (uint i = 0; i < service->Control->SegmentCount; i++)
        {
            ControlSegment* segment = service->Segments + i;
            if (segment->Zero == SegmentTable.Vacated && Overlap(segment, context, start, end, out ulong first, out ulong last))
                SegmentTable.Cut(service, i, first, last, mayStay: true);
        }
    }

    /// <summary>No event is on its way: what was parked has been unmapped.</summary>
    public static void DiscardParked(Service* service, uint context)
    {
        for (uint i = 0; i < service->Control->SegmentCount; i++)
        {
            ControlSegment* segment = service->Segments + i;
            if (segment->Length == 0 || !SegmentTable.IsParked(segment->Zero) || segment->Context != context)
                continue;
            FillWorker.Pause(service);
            DeliveredPages.Drop(service);
            ulong source = segment->Source;
            ulong end = source + segment->Length;
            bool content = segment->Zero == (SegmentTable.Content | SegmentTable.Parked);
            SegmentTable.Free(service, i);
            if (content)
                Delivery.Forget(service, source, end);
        }
    }

    // Takes [start, end) from the context's segments.
    private static void Discard(Service* service, uint context, ulong start, ulong end, bool mayStay)
    {
        for (uint i = 0; i < service->Control->SegmentCount; i++)
        {
            ControlSegment* segment = service->Segments + i;
            if (!Overlap(segment, context, start, end, out ulong first, out ulong last))
                continue;
            ulong source = segment->Source + (first - segment->Destination);
            bool content = segment->Zero == SegmentTable.Content;
            bool cut = SegmentTable.Cut(service, i, first, last, mayStay);
            Steps.Reached(service->Call, FillStep.UnmapHalfApplied);
            if (cut && content)
                Delivery.Forget(service, source, source + (last - first));
        }
    }

    // madvise() waits for us before it drops the pages: from now on they are zeros, whatever we deliver until then.
    private static void Remove(Service* service, uint context, ulong start, ulong end)
    {
        service->Control->Removes++;
        uint before = service->Control->SegmentCount;
        for (uint i = 0; i < before; i++)
        {
            ControlSegment* segment = service->Segments + i;
            if (!Overlap(segment, context, start, end, out ulong first, out ulong last) || segment->Zero != SegmentTable.Content)
                continue;
            ulong source = segment->Source + (first - segment->Destination);
            if (last - first == segment->Length)
                Published.Write(&segment->Zero, SegmentTable.Zero);
            else
            {
                SegmentTable.AddZero(service, context, first, last, SegmentTable.Zero);
                Steps.Reached(service->Call, FillStep.RemoveHalfApplied);
                SegmentTable.Cut(service, i, first, last, mayStay: false);
            }
            Delivery.Forget(service, source, source + (last - first));
        }
    }

    private static void Remap(Service* service, uint context, UserfaultMessage* message)
    {
        ulong from = message->From;
        ulong to = message->To;
        ulong length = message->Length;
        service->Control->Remaps++;
        if (from == to || length == 0)
            return;
        // Whatever we believed to be at the new place is not there. When a guardian applies the event again, it may be what has moved there already.
        if (message->Applied == 0)
        {
            if (service->Contexts[context].IsInexact != 0)
                Discard(service, context, to, to + length, mayStay: false);
            else
                Park(service, context, to, to + length);
            Published.Write(&message->Applied, 1);
        }
        // What is parked was there first: this is its event, and that of what lies there now is still to come.
        if (message->Applied == 1)
        {
            MoveAll(service, context, message);
            Published.Write(&message->Applied, 2);
        }
        MoveParked(service, context, message);
        // With MREMAP_DONTUNMAP the old range stays registered, and empty.
        if (!IsOccupied(service, context, from, from + length))
            SegmentTable.AddZero(service, context, from, from + length, SegmentTable.Vacated);
        LateUnmaps.Expect(service, context, message);
    }

    // Of what is unmapped there would have been an event: these pieces have moved away, and the event that says where to is behind this one.
    private static void Park(Service* service, uint context, ulong start, ulong end)
    {
        uint before = service->Control->SegmentCount;
        for (uint i = 0; i < before; i++)
        {
            ControlSegment* segment = service->Segments + i;
            if (!Overlap(segment, context, start, end, out ulong first, out ulong last))
                continue;
            // The event of this one has come.
            if (segment->Zero == SegmentTable.Vacated)
            {
                SegmentTable.Cut(service, i, first, last, mayStay: false);
                continue;
            }
            Published.Write(&service->Control->Unsettled, 1);
            if (last - first == segment->Length)
                Published.Write(&segment->Zero, segment->Zero | SegmentTable.Parked);
            else
                MovePart(service, i, first, last, first, segment->Zero | SegmentTable.Parked);
        }
    }

    private static void MoveAll(Service* service, uint context, UserfaultMessage* message)
    {
        for (uint i = 0; i < service->Control->SegmentCount; i++)
        {
            ControlSegment* segment = service->Segments + i;
            while (Overlap(segment, context, message->From, message->From + message->Length, out ulong first, out ulong last)
                && TakeUncovered(service, context, ref first, ref last))
                Move(service, i, first, last, message);
        }
    }

    private static void MoveParked(Service* service, uint context, UserfaultMessage* message)
    {
        for (uint i = 0; service->Control->Unsettled != 0 && i < service->Control->SegmentCount; i++)
        {
            if (Overlap(service->Segments + i, context, message->From, message->From + message->Length, out ulong first, out ulong last, SegmentTable.Parked))
                Move(service, i, first, last, message);
        }
    }

    private static void Move(Service* service, uint index, ulong first, ulong last, UserfaultMessage* message)
    {
        ControlSegment* segment = service->Segments + index;
        ulong destination = message->To + (first - message->From);
        bool parked = SegmentTable.IsParked(segment->Zero);
        uint kind = segment->Zero & ~SegmentTable.Parked;
        // Left behind by MREMAP_DONTUNMAP: at the new place it is the program's, and ours, like any other.
        if (kind == SegmentTable.Vacated)
            kind = SegmentTable.Zero;
        if (last - first != segment->Length || parked)
        {
            MovePart(service, index, first, last, destination, kind);
            return;
        }
        Published.Write(&segment->Zero, kind);
        Published.Write(&segment->Destination, destination);
    }

    private static void MovePart(Service* service, uint index, ulong first, ulong last, ulong destination, uint kind)
    {
        ControlSegment* segment = service->Segments + index;
        ulong source = segment->Source + (first - segment->Destination);
        bool content = (kind & ~SegmentTable.Parked) == SegmentTable.Content;
        bool tracked = SegmentTable.AddOrPoison(service, segment->Context, destination, source, last - first, kind);
        Steps.Reached(service->Call, FillStep.RemapHalfApplied);
        SegmentTable.Cut(service, index, first, last, mayStay: false);
        if (!tracked && content)
            Delivery.Forget(service, source, source + (last - first));
    }

    // The last piece of [first, last) at a place of which nothing is parked.
    private static bool TakeUncovered(Service* service, uint context, ref ulong first, ref ulong last)
    {
        for (uint i = 0; service->Control->Unsettled != 0 && i < service->Control->SegmentCount && first < last; i++)
        {
            ControlSegment* parked = service->Segments + i;
            if (!Overlap(parked, context, first, last, out ulong start, out ulong end, SegmentTable.Parked))
                continue;
            if (end < last)
            {
                first = end;
                continue;
            }
            last = start;
            i = uint.MaxValue;
        }
        return first < last;
    }

    private static bool IsOccupied(Service* service, uint context, ulong start, ulong end)
    {
        for (uint i = 0; i < service->Control->SegmentCount; i++)
        {
            if (Overlap(service->Segments + i, context, start, end, out _, out _))
                return true;
        }
        return false;
    }

    private static void Fork(Service* service, uint parent, int file)
    {
        uint child = FirstFreeContext(service);
        if (service->IsSentinel)
        {
            // The number was one of the holder's table. What it announced, before it did anything else, is here.
            file = child < service->ContextLimit ? service->Contexts[child].Fd : -1;
            if (file < 0)
                return;
        }
        service->Control->Forks++;
        for (uint i = 0; i < service->Control->ContextCount; i++)
        {
            if (Service.IsAlive(service, i) && service->Contexts[i].Fd == file)
                return;
        }
        if (child == service->ContextLimit)
        {
            // Not the parent, should it be gone too: what it had is the child's.
            Loop.EndDeadContexts(service, parent);
            child = FirstFreeContext(service);
        }
        if (child == service->ContextLimit)
        {
            PoisonStranger(service, parent, file);
            return;
        }
        if (!service->IsSentinel)
            Sentinel.Announce(service, child, file);
        Kernel.SetNonblocking(service->Call, file);
        CopySegments(service, parent, child);
        Steps.Reached(service->Call, FillStep.ForkHalfApplied);
        // What the parent has, the child has too.
        (&service->Delivered.First)[child] = (&service->Delivered.First)[parent];
        Receipts.Fork(service, parent, child);
        service->Contexts[child].Fd = file;
        // What the parent was moving when it forked has its event only there.
        service->Contexts[child].IsInexact = 1;
        if (child == service->Control->ContextCount)
            Published.Write(&service->Control->ContextCount, child + 1);
        Published.Write(&service->Contexts[child].Alive, 1);
    }

    private static uint FirstFreeContext(Service* service)
    {
        uint free = 0;
        while (free < service->Control->ContextCount && Service.IsAlive(service, free))
            free++;
        return free;
    }

    // A child for which there is no room. If it keeps us from poisoning its pages, by events that nobody will read, then it waits.
    private static void PoisonStranger(Service* service, uint parent, int file)
    {
        for (uint i = 0; i < service->Control->SegmentCount; i++)
        {
            ControlSegment* segment = service->Segments + i;
            if (segment->Length == 0 || segment->Context != parent || SegmentTable.IsZero(segment->Zero) || SegmentTable.IsParked(segment->Zero))
                continue;
            ulong position = segment->Destination;
            Outcome outcome = Outcome.Retry;
            for (uint attempt = 0; attempt < StrangerAttempts && outcome == Outcome.Retry; attempt++)
                outcome = Delivery.PoisonUntil(service, file, &position, segment->Destination + segment->Length);
            if (outcome == Outcome.Gone)
                break;
            if (outcome == Outcome.Retry)
            {
                Published.Write(&service->Control->Withheld, 1);
                return;
            }
        }
        if (service->Control->Withheld == 0)
            Kernel.Close(service->Call, file);
    }

    private static void CopySegments(Service* service, uint parent, uint child)
    {
        ulong lost = ulong.MaxValue;
        ulong lostEnd = 0;
        bool cleared = false;
        uint before = service->Control->SegmentCount;
        for (uint i = 0; i < before; i++)
        {
            ControlSegment* segment = service->Segments + i;
            if (segment->Length == 0 || segment->Context != parent || SegmentTable.IsParked(segment->Zero))
                continue;
            ulong destination = segment->Destination;
            ulong length = segment->Length;
            bool added = SegmentTable.Add(service, child, destination, segment->Source, length, segment->Zero);
            if (!added && !cleared)
            {
                Loop.EndDeadContexts(service, parent);
                cleared = true;
                added = SegmentTable.Add(service, child, destination, segment->Source, length, segment->Zero);
            }
            if (added || SegmentTable.IsZero(segment->Zero))
                continue;
            lost = destination < lost ? destination : lost;
            lostEnd = destination + length > lostEnd ? destination + length : lostEnd;
        }
        // One entry for all that found no room: it may poison more of the child than need be, but no page of it reads as zeros.
        if (lost < lostEnd)
            SegmentTable.AddPoison(service, child, lost, lostEnd - lost);
    }

    private static bool Overlap(ControlSegment* segment, uint context, ulong start, ulong end, out ulong first, out ulong last, uint parked = 0)
    {
        ulong segmentEnd = segment->Destination + segment->Length;
        first = start > segment->Destination ? start : segment->Destination;
        last = end < segmentEnd ? end : segmentEnd;
        return first < last && segment->Context == context && segment->Length != 0 && (segment->Zero & SegmentTable.Parked) == parked;
    }
}
