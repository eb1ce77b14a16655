namespace Pvmmap.Holder.Freestanding;

/// <summary>Delivers everything that is left, batch after batch, and ends the holder when nothing is.</summary>
internal static unsafe class BackgroundFill
{
    /// <summary>A fault waits for the batch that is being copied: so much while faults come.</summary>
    private const ulong LeastBatch = 64 * 1024;
    /// <summary>The pages that are freed behind a batch are the next ones to be filled: more of them would not be in the caches any more.</summary>
    private const ulong MostBatch = 256 * 1024;
    /// <summary>Empty rounds of the loop behind a fault, some microseconds, and how many faults in a row may make it wait.</summary>
    private const uint QuietRounds = 16;
    private const long QuietMicroseconds = 50;
    private const uint MostFaultsInARow = 8;

    public static bool IsWanted(Service* service) =>
        service->Control->Lazy == 0 || (Published.Read(&service->Control->Command) & ControlCommand.FinishNow) != 0;

    /// <summary>One batch. False when an event has to be read, or memory to be had, before it can go on.</summary>
    public static bool Step(Service* service)
    {
        DeliveredPages.Drop(service);
        ulong end = FillWorker.Limit(service);
        ulong batch = NextBatch(service);
        PopulatedRun run = default;
        long found = 0;
        if (service->Cursor < end)
            found = Pagemap.Next(service, service->Cursor, end, batch, service->Pass == FillPass.All, &run);
        if (found == 0)
        {
            if (FillWorker.IsAtWork(service))
                TakeBack(service);
            else if (FillWorker.Limit(service) <= end)
                return EndPass(service);
            return true;
        }
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
        else
            FillWorker.Share(service, run.End, end, batch);
        if (run.Huge)
            StopAtItsEnd(&run);
        service->FoundInPass = true;
        Outcome outcome = Deliver(service, run.Start, run.End);
        if (outcome != Outcome.Done)
            return outcome == Outcome.Gone;
        Steps.Reached(service->Call, FillStep.BatchCopied);
        service->Cursor = run.End;
        // What could be neither delivered nor poisoned must still count as populated when it is touched.
        if (service->Withheld == service->WithheldBefore)
            DropLater(service, run.Start, run.End);
        service->WithheldBefore = service->Withheld;
        if (!run.Huge || IsAtItsEnd(&run))
            DropNow(service);
        Steps.Reached(service->Call, FillStep.BatchDropped);
        return true;
    }

    /// <summary>Somebody waits for pages out of order: small batches for a while, and at first none.</summary>
    public static void GiveWay(Service* service)
    {
        service->Batch = 0;
        service->QuietBatches = 0;
        service->RoundsToWait = QuietRounds;
    }

    /// <summary>
    /// Whether whoever has just got a page may ask for another before the next batch, which it would have to wait for. Not for ever: the fill shall come to an end.
    /// </summary>
    public static bool MustWait(Service* service, bool faulted)
    {
        if (service->RoundsToWait == 0 || service->PendingCount != 0)
            return false;
        bool enough = faulted && ++service->FaultsInARow == MostFaultsInARow;
        if (!enough)
        {
            bool mayCome = true;
            // Who has got the page may need this very processor.
            if (!Spin.IsWorthwhile(service))
                Loop.WaitBriefly(service, QuietMicroseconds, out mayCome);
            if (mayCome && --service->RoundsToWait != 0)
                return true;
            Spin.Ends(service);
        }
        service->RoundsToWait = 0;
        service->FaultsInARow = 0;
        return false;
    }

    /// <summary>Whether every populated page has been dropped: nothing is owed to anybody.</summary>
    public static bool NothingLeft(Service* service)
    {
        ulong start = service->Control->SourceStart;
        return Pagemap.CountBytes(service, start, start + service->Control->SourceLength) == 0;
    }

    /// <summary>Releases the targets and ends this process; returns when an event has to be read first, or when the holder has to stay.</summary>
    public static void Complete(Service* service)
    {
        if (service->Control->Withheld != 0)
            service->FillEnded = true;
        if (service->FillEnded || SegmentsToPoison.Exist(service) || service->Control->Unsettled != 0)
            return;
        // A range with next to nothing in it may be delivered before it is counted.
        Loop.CountNow(service);
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
        Steps.Reached(service->Call, FillStep.Unregistered);
        // Whoever forks, or moves the range, right now waits for its event to be read. It would wait for ever if it held the userfaultfd itself.
        if (Loop.IsEventOutstanding(service))
            return;
        Loop.End(service, content || service->Control->Unmaps == 0 ? ControlState.Complete : ControlState.TargetGone);
    }

    // Doubled from batch to batch.
    private static ulong NextBatch(Service* service)
    {
        ulong most = service->Control->BatchBytes == 0 ? MostBatch : service->Control->BatchBytes;
        service->QuietBatches++;
        ulong batch = service->Batch < LeastBatch ? LeastBatch : service->Batch;
        service->Batch = batch < MostBatch ? batch * 2 : batch;
        return batch < most ? batch : most;
    }

    // A huge page is dropped as a whole, when its last byte has been copied: a run must not go past that.
    public static void StopAtItsEnd(PopulatedRun* run)
    {
        ulong end = (run->Start & ~(ControlPage.HugePageBytes - 1)) + ControlPage.HugePageBytes;
        if (run->End > end)
            run->End = end;
    }

    public static bool IsAtItsEnd(PopulatedRun* run) => run->End % ControlPage.HugePageBytes == 0;

    // What the worker has not come to.
    private static void TakeBack(Service* service)
    {
        DropNow(service);
        FillWorker.Pause(service);
        service->Cursor = service->Worker.Settled;
    }

    private static bool EndPass(Service* service)
    {
        FillWorker.BeginPass(service);
        DropNow(service);
        service->Cursor = service->Control->SourceStart;
        bool again = service->FoundInPass && !service->DropFailed && service->Control->Withheld == 0;
        bool all = service->Pass == FillPass.All;
        service->FoundInPass = false;
        service->Pass = FillPass.All;
        Service.ResetDelivered(service);
        if (!all || again)
            return true;
        Complete(service);
        return false;
    }

    // Copies a run to wherever it is owed: to several segments, several contexts, or nobody.
    private static Outcome Deliver(Service* service, ulong start, ulong end)
    {
        for (uint context = 0; context < service->Control->ContextCount; context++)
        {
            ulong* position = &service->Delivered.First + context;
            if (*position < start)
                *position = start;
            while (*position < end && Service.IsAlive(service, context))
            {
                if (!SegmentTable.NextPiece(service, context, position, end, out ulong destination, out ulong pieceEnd))
                {
                    *position = end;
                    break;
                }
                Outcome outcome = Delivery.Copy(service, context, destination, position, pieceEnd);
                if (outcome == Outcome.Gone)
                    Delivery.EndContext(service, context);
                if (outcome != Outcome.Done)
                    return outcome;
            }
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

    /// <summary>Poisons what can be poisoned now; the entries shrink, and are free when all of their pages are.</summary>
    public static void Serve(Service* service)
    {
        for (uint i = 0; i < service->Control->SegmentCount; i++)
        {
            ControlSegment* segment = service->Segments + i;
            // Where poisoning has failed before, the entries stay: their pages wait.
            if (segment->Length == 0 || segment->Zero != SegmentTable.Poison || service->Withheld != 0)
                continue;
            if (ServeEntry(service, i) == Outcome.Gone)
                Delivery.EndContext(service, segment->Context);
        }
    }

    /// <summary>Poisons what can be poisoned of one entry now; <see cref="Outcome.Done"/> when that is all of it.</summary>
    public static Outcome ServeEntry(Service* service, uint index)
    {
        ControlSegment* segment = service->Segments + index;
        uint withheld = service->Withheld;
        ulong end = segment->Destination + segment->Length;
        ulong position = segment->Destination;
        Outcome outcome = Delivery.PoisonUntil(service, service->Contexts[segment->Context].Fd, &position, end);
        if (service->Withheld != withheld)
            return outcome;
        if (position == end)
            SegmentTable.Free(service, index);
        else
        {
            Published.Write(&segment->Destination, position);
            Published.Write(&segment->Length, end - position);
        }
        return outcome;
    }
}
