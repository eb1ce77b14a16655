namespace Pvmmap.Holder.Freestanding;

/// <summary>Delivers everything that is left, batch after batch, and ends the holder when nothing is.</summary>
internal static unsafe class BackgroundFill
{
    private const ulong DefaultBatch = 256 * 1024;
    private const ulong HugePageSize = 2 * 1024 * 1024;

    public static bool IsWanted(Service* service) =>
        service->Control->Lazy == 0 || (Published.Read(&service->Control->Command) & ControlCommand.FinishNow) != 0;

    /// <summary>One batch. False when an event has to be read, or memory to be had, before it can go on.</summary>
    public static bool Step(Service* service)
    {
        ulong end = service->Control->SourceStart + service->Control->SourceLength;
        ulong batch = service->Control->BatchBytes == 0 ? DefaultBatch : service->Control->BatchBytes;
        PopulatedRun run = default;
        long found = 0;
        if (service->Cursor < end)
            found = Pagemap.Next(service->Call, service->Cursor, end, batch, service->Pass == FillPass.All, &run);
        if (found == 0)
            return EndPass(service);
        if (found < 0)
        {
            // Without a page table to go by every page is delivered once, the unpopulated ones as zeros.
            if (!service->DropFailed)
                Service.Report(service, found);
            service->DropFailed = true;
            run.Start = service->Cursor;
            run.End = end - run.Start > batch ? run.Start + batch : end;
            run.Huge = false;
        }
        service->FoundInPass = true;
        uint withheld = service->Withheld;
        Outcome outcome = Deliver(service, run.Start, run.End);
        if (outcome != Outcome.Done)
            return outcome == Outcome.Gone;
        service->Cursor = run.End;
        // What could be neither delivered nor poisoned must still count as populated when it is touched.
        if (service->Withheld == withheld)
            DropLater(service, run.Start, run.End);
        if (!run.Huge || run.End % HugePageSize == 0)
            DropNow(service);
        return true;
    }

    /// <summary>Whether every populated page has been dropped: nothing is owed to anybody.</summary>
    public static bool NothingLeft(Service* service)
    {
        ulong start = service->Control->SourceStart;
        return Pagemap.CountBytes(service->Call, start, start + service->Control->SourceLength) == 0;
    }

    /// <summary>Releases the targets and ends this process; returns when an event has to be read first, or when the holder has to stay.</summary>
    public static void Complete(Service* service)
    {
        if (service->Control->Withheld != 0)
            service->FillEnded = true;
        if (service->FillEnded || SegmentsToPoison.Exist(service))
            return;
        bool content = false;
        for (uint i = 0; i < service->Control->SegmentCount; i++)
        {
            ControlSegment* segment = service->Segments + i;
            // What was vacated may be another's by now, and older kernels take VMAs from any userfaultfd here; closing ours releases it.
            if (segment->Length == 0 || segment->Zero == SegmentTable.Vacated || !Service.IsAlive(service, segment->Context))
                continue;
            content |= segment->Zero == SegmentTable.Content;
            long result = Userfaultfd.Unregister(
                service->Call, service->Contexts[segment->Context].Fd, segment->Destination, segment->Length);
            if (result == Kernel.EAGAIN)
                return;
        }
        Loop.End(service, content || service->Control->Unmaps == 0 ? ControlState.Complete : ControlState.TargetGone);
    }

    private static bool EndPass(Service* service)
    {
        DropNow(service);
        service->Cursor = service->Control->SourceStart;
        bool again = service->FoundInPass && !service->DropFailed && service->Control->Withheld == 0;
        bool all = service->Pass == FillPass.All;
        service->FoundInPass = false;
        service->Pass = FillPass.All;
        if (!all || again)
            return true;
        Complete(service);
        return false;
    }

    // Copies a run to wherever it is owed: to several segments, several contexts, or nobody.
    private static Outcome Deliver(Service* service, ulong start, ulong end)
    {
        for (uint i = 0; i < service->Control->SegmentCount; i++)
        {
            ControlSegment* segment = service->Segments + i;
            if (segment->Length == 0 || segment->Zero != SegmentTable.Content)
                continue;
            ulong segmentEnd = segment->Source + segment->Length;
            ulong first = start > segment->Source ? start : segment->Source;
            ulong last = end < segmentEnd ? end : segmentEnd;
            if (first >= last)
                continue;
            uint context = segment->Context;
            Outcome outcome = Delivery.Copy(service, context, segment->Destination + (first - segment->Source), first, last - first);
            if (outcome == Outcome.Gone)
                Delivery.EndContext(service, context);
            if (outcome != Outcome.Done)
                return outcome;
        }
        return Outcome.Done;
    }

    private static void DropLater(Service* service, ulong start, ulong end)
    {
        if (service->DropEnd != start)
        {
            DropNow(service);
            service->DropStart = start;
        }
        service->DropEnd = end;
    }

    private static void DropNow(Service* service)
    {
        if (service->DropStart < service->DropEnd)
            Delivery.Drop(service, service->DropStart, service->DropEnd);
        service->DropStart = service->DropEnd;
    }
}

/// <summary>The entries that are to be poisoned because the table was full.</summary>
internal static unsafe class SegmentsToPoison
{
    public static bool Exist(Service* service)
    {
        for (uint i = 0; i < service->Control->SegmentCount; i++)
        {
            if (service->Segments[i].Length != 0 && service->Segments[i].Zero == SegmentTable.Poison)
                return true;
        }
        return false;
    }

    /// <summary>Poisons what can be poisoned now and frees those entries.</summary>
    public static void Serve(Service* service)
    {
        for (uint i = 0; i < service->Control->SegmentCount; i++)
        {
            ControlSegment* segment = service->Segments + i;
            if (segment->Length == 0 || segment->Zero != SegmentTable.Poison)
                continue;
            uint context = segment->Context;
            if (Service.IsAlive(service, context))
            {
                Outcome outcome = Delivery.Poison(service, context, segment->Destination, segment->Length);
                if (outcome == Outcome.Retry || service->Control->Withheld != 0)
                    continue;
                if (outcome == Outcome.Gone)
                {
                    Delivery.EndContext(service, context);
                    continue;
                }
            }
            SegmentTable.Free(service, i);
        }
    }
}
