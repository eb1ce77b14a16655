using Pvmmap.Linux;

namespace Pvmmap.Holder.Freestanding;

internal enum Outcome
{
    /// <summary>The pages are in place, or nobody can touch them any more.</summary>
    Done,
    /// <summary>An event has to be read first, or memory is short.</summary>
    Retry,
    /// <summary>That address space is gone.</summary>
    Gone,
}

/// <summary>Puts pages into a target, or poison, and drops them from the holder: what each errno of an ioctl means stands here.</summary>
internal static unsafe class Delivery
{
    /// <summary>
    /// Copies source pages, up to <paramref name="end"/>, to a context's address; <paramref name="source"/> follows the progress. Pages that are
    /// there already and addresses that are unmapped are passed over.
    /// </summary>
    public static Outcome Copy(Service* service, uint context, ulong destination, ulong* source, ulong end)
    {
        int file = service->Contexts[context].Fd;
        ulong piece = end - *source;
        ulong doubted = 0;
        while (*source < end)
        {
            if (piece > end - *source)
                piece = end - *source;
            long result = Userfaultfd.Copy(service->Call, file, destination, *source, piece);
            ulong done = Kernel.PageSize;
            if (result > 0)
            {
                done = (ulong)result;
                piece *= 2;
            }
            else if (result == Kernel.EAGAIN)
                return Outcome.Retry;
            else if (result == Kernel.ESRCH)
                return Outcome.Gone;
            else if (result == Kernel.ENOMEM || result == Kernel.EINTR)
                return Pause(service);
            else if (result != Kernel.EEXIST)
            {
                // ENOENT says that the piece does not lie within one registered VMA, which a mprotect() of the target may have split:
                // only of a single page does it say that the page is gone.
                if (piece > Kernel.PageSize)
                {
                    piece = HalfOf(piece);
                    continue;
                }
                // Since Linux 6.9 a page that an mremap() moves just now is ENOENT as well. Asked again it is EAGAIN: there is an event to read first.
                if (result == Kernel.ENOENT && doubted != destination)
                {
                    doubted = destination;
                    continue;
                }
                if (result != Kernel.ENOENT)
                {
                    // EFAULT: the source page cannot be read (guard page, memory failure).
                    Service.Report(service, result);
                    Outcome outcome = Poison(service, context, destination, Kernel.PageSize);
                    if (outcome != Outcome.Done)
                        return outcome;
                }
            }
            destination += done;
            *source += done;
        }
        return Outcome.Done;
    }

    /// <summary>Poisons all missing pages of a range.</summary>
    public static Outcome Poison(Service* service, uint context, ulong start, ulong length)
    {
        ulong end = start + length;
        return PoisonUntil(service, service->Contexts[context].Fd, &start, end);
    }

    /// <summary>Poisons missing pages from <paramref name="start"/> on, which follows the progress.</summary>
    public static Outcome PoisonUntil(Service* service, int file, ulong* start, ulong end)
    {
        ulong piece = end - *start;
        ulong doubted = 0;
        while (*start < end)
        {
            if (piece > end - *start)
                piece = end - *start;
            long result = (service->Control->Without & KernelFeature.Poison) != 0
                ? Kernel.EINVAL
                : Userfaultfd.Poison(service->Call, file, *start, piece);
            ulong done = Kernel.PageSize;
            if (result > 0)
            {
                done = (ulong)result;
                service->Control->PoisonedPages += done / Kernel.PageSize;
                piece *= 2;
            }
            else if (result == Kernel.EAGAIN)
                return Outcome.Retry;
            else if (result == Kernel.ESRCH)
                return Outcome.Gone;
            else if (result == Kernel.ENOMEM || result == Kernel.EINTR)
                return Pause(service);
            else if (result == Kernel.EEXIST)
            {
                // In place: whoever waits for it was read by a holder that died before it could wake it.
                Userfaultfd.Wake(service->Call, file, *start, Kernel.PageSize);
            }
            else if (result == Kernel.EINVAL || result == Kernel.ENOTTY)
            {
                // Before Linux 6.6 there is no UFFDIO_POISON: who touches these pages waits for as long as the userfaultfd is open.
                Withhold(service, result);
                done = end - *start;
            }
            else if (piece > Kernel.PageSize)
            {
                piece = HalfOf(piece);
                continue;
            }
            else
            {
                // As in Copy().
                if (result == Kernel.ENOENT && doubted != *start)
                {
                    doubted = *start;
                    continue;
                }
                if (result == Kernel.ENOENT)
                    Userfaultfd.Wake(service->Call, file, *start, Kernel.PageSize);
                else
                    Withhold(service, result);
            }
            *start += done;
        }
        return Outcome.Done;
    }

    /// <summary>Maps the zero page at one page.</summary>
    public static Outcome ZeroPage(Service* service, uint context, ulong page)
    {
        int file = service->Contexts[context].Fd;
        long result = Userfaultfd.ZeroPage(service->Call, file, page, Kernel.PageSize);
        if (result > 0)
        {
            service->Control->ZeroFaults++;
            return Outcome.Done;
        }
        if (result == Kernel.EAGAIN)
            return Outcome.Retry;
        if (result == Kernel.ESRCH)
            return Outcome.Gone;
        if (result == Kernel.ENOMEM || result == Kernel.EINTR)
            return Pause(service);
        if (result == Kernel.EEXIST || result == Kernel.ENOENT)
        {
            Userfaultfd.Wake(service->Call, file, page, Kernel.PageSize);
            return Outcome.Done;
        }
        Service.Report(service, result);
        return Poison(service, context, page, Kernel.PageSize);
    }

    /// <summary>
    /// Asks about a range of a target without changing it, by a copy from an address where the holder has nothing: ENOENT says that it is not
    /// within one registered VMA, ESRCH that the address space is gone, EFAULT or EEXIST that it is within one.
    /// </summary>
    public static long Probe(Service* service, int file, ulong start, ulong end)
    {
        // What was inherited may lie at that very address.
        Inheritance.GiveUpLater(service);
        return Userfaultfd.Copy(service->Call, file, start, Nowhere(service, end - start), end - start);
    }

    /// <summary>False if a probe has to be made again: an event comes first, or memory is short, which the kernel finds before it would copy.</summary>
    public static bool IsAnswer(long probed) => probed != Kernel.EAGAIN && probed != Kernel.ENOMEM && probed != Kernel.EINTR;

    // An address whose page cannot be read.
    private static ulong Nowhere(Service* service, ulong length)
    {
        // A move keeps an empty page in front of the range. A copy's holder has nothing but its image, the range and the control page, and
        // neither of the others lies this low.
        const ulong low = 0x10000;
        if (service->Control->Move != 0)
            return service->Control->ReservedStart;
        return service->Control->SourceStart > low * 2 ? low : service->Control->AddressSpaceEnd - length;
    }

    /// <summary>Whether the address space behind a userfaultfd is gone; the descriptor itself does not tell.</summary>
    public static bool IsGone(Service* service, int file)
    {
        ulong end = service->Control->AddressSpaceEnd;
        return Probe(service, file, end - Kernel.PageSize, end) == Kernel.ESRCH;
    }

    /// <summary>Whether a descriptor is a userfaultfd: others say EBADF or ENOTTY.</summary>
    public static bool IsUserfaultfd(Service* service, int file) =>
        Userfaultfd.Wake(service->Call, file, service->Control->AddressSpaceEnd - Kernel.PageSize, Kernel.PageSize) == 0;

    /// <summary>Drops source pages that nobody is owed any more.</summary>
    public static void Forget(Service* service, ulong start, ulong end)
    {
        Receipts.LookAgain(service);
        while (start < end)
        {
            if (!SegmentTable.IsOwed(service, start, end, out ulong next))
                Drop(service, start, next < end ? next : end);
            start = next;
        }
    }

    /// <summary>Drops source pages from the holder and counts them as done.</summary>
    public static void Drop(Service* service, ulong start, ulong end)
    {
        // The guardian has neither the range nor the right to another process's page table.
        if (service->Recovering)
            return;
        ulong populated = Pagemap.CountBytes(service, start, end);
        // A guard marker (MADV_GUARD_INSTALL, Linux 6.13) counts as swapped and outlives MADV_DONTNEED.
        if (DropPopulated(service, start, end, populated) && populated != 0 && Pagemap.CountBytes(service, start, end) != 0)
            Check(service, Kernel.Advise(service->Call, start, end, Kernel.MADV_GUARD_REMOVE));
    }

    /// <summary>The same where it is known how many bytes of them are populated; none of them is a guard marker. False if they cannot be dropped.</summary>
    public static bool DropPopulated(Service* service, ulong start, ulong end, ulong populated)
    {
        // What goes before it could be counted was there all the same.
        if (service->Counted != 0 && end > service->Counted)
            service->CountedBytes += start >= service->Counted ? populated : Pagemap.CountBytes(service, service->Counted, end);
        service->Control->BytesDone += populated;
        return Check(service, Kernel.Advise(service->Call, start, end, Kernel.MADV_DONTNEED));
    }

    private static bool Check(Service* service, long advised)
    {
        if (advised >= 0)
            return true;
        service->DropFailed = true;
        Service.Report(service, advised);
        return false;
    }

    /// <summary>An address space ended: nothing is owed to it any more.</summary>
    public static void EndContext(Service* service, uint context)
    {
        ControlContext* entry = service->Contexts + context;
        FillWorker.Pause(service);
        DeliveredPages.Drop(service);
        for (uint i = 0; i < service->Control->SegmentCount; i++)
        {
            ControlSegment* segment = service->Segments + i;
            if (segment->Length == 0 || segment->Context != context)
                continue;
            ulong source = segment->Source;
            ulong end = source + segment->Length;
            bool content = (segment->Zero & ~SegmentTable.Parked) == SegmentTable.Content;
            SegmentTable.Free(service, i);
            if (content)
                Forget(service, source, end);
        }
        LateUnmaps.Forget(service, context);
        PendingList.RemoveContext(service, context);
        Published.Write(&entry->Alive, 0);
        Kernel.Close(service->Call, entry->Fd);
        entry->Fd = -1;
    }

    private static void Withhold(Service* service, long error)
    {
        Service.Report(service, error);
        service->Withheld++;
        Published.Write(&service->Control->Withheld, 1);
    }

    private static Outcome Pause(Service* service)
    {
        service->Backoff = true;
        service->Control->Retries++;
        return Outcome.Retry;
    }

    private static ulong HalfOf(ulong piece) => (piece / 2 + Kernel.PageSize - 1) & ~(Kernel.PageSize - 1);
}

/// <summary>Faults that could not be answered yet.</summary>
internal static unsafe class PendingList
{
    /// <summary>False when the list is full.</summary>
    public static bool Add(Service* service, uint context, ulong address)
    {
        if (service->PendingCount == Service.MaximumPending)
            return false;
        PendingFault* entry = &service->Pending.First + service->PendingCount;
        entry->Address = address;
        entry->Context = context;
        service->PendingCount++;
        return true;
    }

    public static void RemoveContext(Service* service, uint context)
    {
        PendingFault* entries = &service->Pending.First;
        uint kept = 0;
        for (uint i = 0; i < service->PendingCount; i++)
        {
            if (entries[i].Context == context)
                continue;
            entries[kept].Address = entries[i].Address;
            entries[kept].Context = entries[i].Context;
            kept++;
        }
        service->PendingCount = kept;
    }
}
