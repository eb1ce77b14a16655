namespace Pvmmap.Holder.Freestanding;

/// <summary>Answers the faults of the targets.</summary>
internal static unsafe class Faults
{
    /// <summary>Answers a fault now, or keeps it for later.</summary>
    public static void Serve(Service* service, uint context, ulong address)
    {
        ulong page = address & ~(Kernel.PageSize - 1);
        service->Control->Faults++;
        BackgroundFill.GiveWay(service);
        Outcome outcome = Answer(service, context, page);
        if (outcome == Outcome.Gone)
            Delivery.EndContext(service, context);
        else if (outcome == Outcome.Retry)
        {
            service->Control->Retries++;
            // Woken without a page, the thread faults again and the fault is reported anew.
            if (!PendingList.Add(service, context, page))
                Userfaultfd.Wake(service->Call, service->Contexts[context].Fd, page, Kernel.PageSize);
        }
    }

    /// <summary>Tries the kept faults again.</summary>
    public static void ServePending(Service* service)
    {
        PendingFault* entries = &service->Pending.First;
        uint i = 0;
        while (i < service->PendingCount)
        {
            uint context = entries[i].Context;
            Outcome outcome = Answer(service, context, entries[i].Address);
            if (outcome == Outcome.Gone)
            {
                Delivery.EndContext(service, context);
                i = 0;
            }
            else if (outcome == Outcome.Done)
            {
                service->PendingCount--;
                entries[i].Address = entries[service->PendingCount].Address;
                entries[i].Context = entries[service->PendingCount].Context;
            }
            else
                i++;
        }
    }

    /// <summary>
    /// While nobody waits: the pages behind the one that was asked for last. Who goes through memory in order asks for less then, and who does not has
    /// not waited for them.
    /// </summary>
    public static void ServeAround(Service* service)
    {
        uint context = service->AroundContext;
        ulong page = service->AroundPage;
        ulong bytes = service->AroundBytes;
        service->AroundBytes = 0;
        if (bytes == 0 || !Service.IsAlive(service, context))
            return;
        ControlSegment* segment = SegmentTable.Find(service, context, page);
        if (segment == null || segment->Zero != SegmentTable.Content)
            return;
        ulong rest = segment->Destination + segment->Length - page;
        ulong source = segment->Source + (page - segment->Destination);
        PopulatedRun run;
        if (Pagemap.Next(service, source, source + (rest < bytes ? rest : bytes), bytes, true, &run) <= 0 || run.Start > source)
            return;
        DeliveredPages.MakeRoom(service, run.End - source);
        long result = Userfaultfd.Copy(service->Call, service->Contexts[context].Fd, page, source, run.End - source);
        if (result <= 0)
            return;
        FaultStreams.Advance(service, context, page, page + (ulong)result);
        Delivered(service, context, source, source + (ulong)result, run.Huge);
    }

    // Part of a huge page frees nothing: in the background fill the whole of it is dropped at once.
    private static void Delivered(Service* service, uint context, ulong start, ulong end, bool huge)
    {
        bool later = huge && BackgroundFill.IsWanted(service);
        if (later)
            return;
        if (Service.CountAlive(service) == 1)
            DeliveredPages.Add(service, start, end);
        else if (!BackgroundFill.IsWanted(service))
            Receipts.Add(service, context, start, end);
    }

    private static Outcome Answer(Service* service, uint context, ulong page)
    {
        if (Relocation.IsAwaited(service))
            return Outcome.Retry;
        ControlSegment* segment = SegmentTable.Find(service, context, page);
        if (segment == null)
            return AnswerUnknown(service, context, page);
        if (SegmentTable.IsZero(segment->Zero))
            return Delivery.ZeroPage(service, context, page);
        if (segment->Zero == SegmentTable.Poison)
            return Delivery.Poison(service, context, page, Kernel.PageSize);

        ulong source = segment->Source + (page - segment->Destination);
        ulong rest = segment->Destination + segment->Length - page;
        FaultStream* stream = FaultStreams.Find(service, context, page);
        ulong around = rest < stream->Around ? rest : stream->Around;
        PopulatedRun run;
        run.Huge = false;
        long found = Pagemap.Next(service, source, source + around, around, true, &run);
        if (found == 0 || (found > 0 && run.Start > source))
            return Delivery.ZeroPage(service, context, page);
        // Where the page table cannot be read, copying the page is right in any case: an unpopulated one is copied as zeros.
        ulong length = found < 0 ? Kernel.PageSize : run.End - source;
        return CopyFault(service, context, page, source, length, found > 0, run.Huge, stream);
    }

    private static Outcome CopyFault(Service* service, uint context, ulong page, ulong source, ulong length, bool populated, bool huge, FaultStream* stream)
    {
        int file = service->Contexts[context].Fd;
        DeliveredPages.MakeRoom(service, length);
        long result = Userfaultfd.Copy(service->Call, file, page, source, length);
        if (result < 0 && result != Kernel.EAGAIN && length > Kernel.PageSize)
            result = Userfaultfd.Copy(service->Call, file, page, source, Kernel.PageSize);
        if (result > 0)
        {
            Steps.Reached(service->Call, FillStep.FaultCopied);
            stream->Next = page + (ulong)result;
            if (populated)
                Delivered(service, context, source, source + (ulong)result, huge);
            else if (Service.CountAlive(service) == 1)
                Delivery.Drop(service, source, source + (ulong)result);
            if (stream->Around == Kernel.PageSize)
            {
                service->AroundContext = context;
                service->AroundPage = stream->Next;
                service->AroundBytes = FaultStreams.Behind;
            }
            return Outcome.Done;
        }
        if (result == Kernel.EEXIST || result == Kernel.ENOENT)
        {
            // Somebody was faster, or the address is no longer mapped: the thread shall see for itself.
            Userfaultfd.Wake(service->Call, file, page, Kernel.PageSize);
            return Outcome.Done;
        }
        return result == Kernel.EAGAIN ? Outcome.Retry : CopyThoroughly(service, context, page, source);
    }

    private static Outcome CopyThoroughly(Service* service, uint context, ulong page, ulong source)
    {
        uint withheld = service->Withheld;
        ulong position = source;
        Outcome outcome = Delivery.Copy(service, context, page, &position, source + Kernel.PageSize);
        if (outcome != Outcome.Done || service->Withheld != withheld)
            return outcome;
        if (Service.CountAlive(service) != 1)
        {
            if (!BackgroundFill.IsWanted(service))
                Receipts.AddDoubtful(service, context, source);
        }
        else
        {
            // It may be among them, when it had come along with another: it counts once.
            DeliveredPages.Drop(service);
            Delivery.Drop(service, source, source + Kernel.PageSize);
        }
        return outcome;
    }

    // A region that grew in place (mremap(), a stack) reports no event: what lies in one VMA with a known segment is new, and so zero.
    // What does not is an address we lost track of: SIGBUS rather than zeros.
    private static Outcome AnswerUnknown(Service* service, uint context, ulong page)
    {
        int file = service->Contexts[context].Fd;
        ulong below = 0;
        ulong above = ulong.MaxValue;
        for (uint i = 0; i < service->Control->SegmentCount; i++)
        {
            ControlSegment* segment = service->Segments + i;
            if (segment->Length == 0 || segment->Context != context || SegmentTable.IsParked(segment->Zero))
                continue;
            ulong end = segment->Destination + segment->Length;
            if (end <= page && end > below)
                below = end;
            if (segment->Destination > page && segment->Destination < above)
                above = segment->Destination;
        }
        if (service->Control->Withheld == 0)
        {
            if (below != 0)
            {
                long answer = Delivery.Probe(service, file, below - Kernel.PageSize, page + Kernel.PageSize);
                if (answer == Kernel.EEXIST || answer == Kernel.EFAULT)
                {
                    SegmentTable.AddZero(service, context, below, page + Kernel.PageSize, SegmentTable.Zero);
                    return Delivery.ZeroPage(service, context, page);
                }
                if (!Delivery.IsAnswer(answer))
                    return Outcome.Retry;
            }
            if (above != ulong.MaxValue)
            {
                long answer = Delivery.Probe(service, file, page, above + Kernel.PageSize);
                if (answer == Kernel.EEXIST || answer == Kernel.EFAULT)
                {
                    SegmentTable.AddZero(service, context, page, above, SegmentTable.Zero);
                    return Delivery.ZeroPage(service, context, page);
                }
                if (!Delivery.IsAnswer(answer))
                    return Outcome.Retry;
            }
        }
        ulong poisoned = service->Control->PoisonedPages;
        Outcome outcome = Delivery.Poison(service, context, page, Kernel.PageSize);
        if (service->Control->PoisonedPages != poisoned)
            Service.Report(service, Kernel.ENOENT);
        return outcome;
    }
}
