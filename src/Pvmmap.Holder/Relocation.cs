using Pvmmap.Linux;

namespace Pvmmap.Holder.Freestanding;

/// <summary>
/// A move: the source's pages go to a place that the source does not know, whole page tables at a time. Until the target has taken its region
/// nothing of the source is changed; from then on the pages go whatever dies, because holder and guardian both can finish it.
/// </summary>
internal static unsafe class Relocation
{
    private const ulong MiB = 1024 * 1024;

    // What mremap() can move as a whole: a page table of a page middle directory entry, and of a page upper directory entry.
    private const ulong TableSize = 2 * MiB;
    private const ulong UpperTableSize = 1024 * MiB;

    /// <summary>True from the moment all is ready until the target takes the region.</summary>
    public static bool IsAwaited(Service* service) => Published.Read(&service->Control->State) == ControlState.Prepared;

    /// <summary>
    /// Keeps a place for the pages, as far from a table's border as the range is. It is mapped from the control page's file, behind its end:
    /// that names it in /proc/PID/maps, and tells it from pages that have arrived. Returns a negated errno, or 0.
    /// </summary>
    public static long Reserve(Service* service)
    {
        ControlPage* control = service->Control;
        long at = Reserve(service, control->SourceLength >= UpperTableSize ? UpperTableSize : TableSize);
        if (at == Kernel.ENOMEM)
            at = Reserve(service, Kernel.PageSize);
        // EAGAIN: mlockall(MCL_FUTURE) and RLIMIT_MEMLOCK.
        return at == Kernel.EAGAIN ? Kernel.ENOMEM : at < 0 ? at : 0;
    }

    private static long Reserve(Service* service, ulong alignment)
    {
        KernelEntry call = service->Call;
        ControlPage* control = service->Control;
        ulong length = control->SourceLength + 2 * Kernel.PageSize;
        ulong room = length + alignment - Kernel.PageSize;
        long at = call(SystemCalls.mmap, 0, (long)room, Kernel.PROT_NONE, Kernel.MAP_SHARED, HolderFds.Control, ControlPage.Size);
        if (at < 0)
            return at;
        ulong first = (ulong)at + Kernel.PageSize;
        ulong start = first + ((control->TakenFrom - first) & (alignment - 1));
        Kernel.Unmap(call, (ulong)at, start - first);
        ulong end = start - Kernel.PageSize + length;
        Kernel.Unmap(call, end, (ulong)at + room - end);
        control->ReservedLength = length;
        control->ReservedStart = start - Kernel.PageSize;
        // mlockall(MCL_FUTURE) would have it locked; what is locked cannot be dropped.
        call(SystemCalls.munlock, (long)control->ReservedStart, (long)length, 0, 0, 0, 0);
        Kernel.Advise(call, control->ReservedStart, end, Kernel.MADV_DONTFORK);
        control->SourceStart = start;
        return at;
    }

    /// <summary>
    /// How many mappings more the move takes for a while: advice for a part of a VMA splits it in three, and so does a page that moves into the
    /// place kept.
    /// </summary>
    public const uint Mappings = 5;

    /// <summary>
    /// Whether <paramref name="mappings"/> more can be had and mremap() works then, which begins only if two more and another three would be below
    /// vm.max_map_count.
    /// </summary>
    public static bool HasRoom(KernelEntry call, uint mappings)
    {
        ulong length = (mappings | 1) * Kernel.PageSize;
        long mapped = call(SystemCalls.mmap, 0, (long)length, Kernel.PROT_NONE, Kernel.MAP_SHARED, HolderFds.Control, ControlPage.Size);
        if (mapped < 0)
            return false;
        ulong start = (ulong)mapped;
        long result = 0;
        for (ulong at = Kernel.PageSize; at < length && result >= 0; at += 2 * Kernel.PageSize)
            result = call(SystemCalls.mprotect, (long)(start + at), (long)Kernel.PageSize, Kernel.PROT_READ, 0, 0, 0);
        if (result >= 0)
        {
            result = call(
                SystemCalls.mremap, mapped, (long)Kernel.PageSize, (long)Kernel.PageSize, Kernel.MREMAP_MAYMOVE | Kernel.MREMAP_FIXED,
                mapped + (long)Kernel.PageSize, 0);
        }
        Kernel.Unmap(call, start, length);
        return result >= 0;
    }

    /// <summary>
    /// The message by which the target tells that it has the region: it is moved to where it was asked for, or, where it was built in place, its
    /// first page is dropped.
    /// </summary>
    public static bool IsCommit(Service* service, UserfaultMessage* message)
    {
        ControlPage* control = service->Control;
        if (message->Event == Userfaultfd.EventRemap)
            return message->From == control->PlacedAt && message->To == control->DestinationStart;
        return message->Event == Userfaultfd.EventRemove && message->From == control->PlacedAt
            && message->To == control->PlacedAt + Kernel.PageSize && control->PlacedAt == control->DestinationStart;
    }

    /// <summary>The drop that only tells of the region being taken is not the target's own doing: it drops nothing.</summary>
    public static void Consume(UserfaultMessage* message)
    {
        if (message->Event == Userfaultfd.EventRemove)
            Published.Write(&message->Event, 0);
    }

    /// <summary>Finishes, in the guardian, what the holder had begun to take.</summary>
    public static void Resume(Service* service)
    {
        for (uint i = 0; i < ControlPage.MaximumMessages; i++)
        {
            if (IsCommit(service, service->Messages + i))
                Consume(service->Messages + i);
        }
        Commit(service);
    }

    /// <summary>Takes the range from the source, from wherever it was left.</summary>
    public static void Commit(Service* service)
    {
        KernelEntry call = service->Call;
        ControlPage* control = service->Control;
        ulong from = control->TakenFrom;
        ulong to = control->SourceStart;
        ulong length = control->SourceLength;
        // First: a child that is forked right now has the range or has it not, but never at the other place.
        Kernel.Advise(call, from, from + length, Kernel.MADV_DONTFORK);
        if (control->Moving != 0 && HasArrived(call, to + control->Moved))
            Published.Write(&control->Moved, control->Moved + control->Moving);
        ulong piece = length;
        while (control->Moved < length)
        {
            ulong done = control->Moved;
            if (piece > length - done)
                piece = length - done;
            Steps.Halve(call, FillStep.PieceMoved, &piece);
            Published.Write(&control->Moving, piece);
            // For tests: what is longer than a page table counts as more than one VMA.
            long result = (control->Without & KernelFeature.MremapVmas) != 0 && piece > TableSize ? Kernel.EINVAL : call(
                SystemCalls.mremap, (long)(from + done), (long)piece, (long)piece, Kernel.MREMAP_MAYMOVE | Kernel.MREMAP_FIXED, (long)(to + done), 0);
            if (result == Kernel.EINTR)
                continue;
            // Before Linux 6.17 it takes no more than one VMA.
            if (result < 0 && piece > Kernel.PageSize)
            {
                piece = (piece / 2 + Kernel.PageSize - 1) & ~(Kernel.PageSize - 1);
                continue;
            }
            // EFAULT: a thread of the source has unmapped it in this very moment.
            if (result < 0 && result != Kernel.EFAULT)
                LeaveToSource(service, done, piece, result);
            Published.Write(&control->Moved, done + piece);
            Steps.Reached(call, FillStep.PieceMoved);
            piece *= 2;
        }
        Published.Write(&control->Moving, 0);
        Steps.Reached(call, FillStep.RangeMoved);
        Settle(service);
        Steps.Reached(call, FillStep.RangeSettled);
        Published.Write(&control->State, ControlState.Serving);
        Kernel.Wake(call, &control->State);
        Steps.Reached(call, FillStep.RelocationPublished);
    }

    private static void Settle(Service* service)
    {
        KernelEntry call = service->Call;
        ulong start = service->Control->SourceStart;
        ulong end = start + service->Control->SourceLength;
        Kernel.Advise(call, start, end, Kernel.MADV_DONTFORK);
        // What is locked cannot be dropped, and khugepaged would turn dropped pages into populated ones.
        call(SystemCalls.munlock, (long)start, (long)(end - start), 0, 0, 0, 0);
        Kernel.Advise(call, start, end, Kernel.MADV_NOHUGEPAGE);
        // It is the source's no more: not in its core file either.
        Kernel.Advise(call, start, end, Kernel.MADV_DONTDUMP);
        if ((service->Control->Without & KernelFeature.AnonVmaName) == 0)
            Naming.Name(call, start, end);
        if (service->Control->Unreadable != 0)
            Boot.MakeReadable(service);
        service->Cursor = start;
        Loop.CountLater(service);
    }

    // A page that cannot be taken stays the source's; in the target it must not read as zeros.
    private static void LeaveToSource(Service* service, ulong offset, ulong length, long error)
    {
        Service.Report(service, error);
        ulong from = service->Control->TakenFrom + offset;
        Kernel.Advise(service->Call, from, from + length, Kernel.MADV_DOFORK);
        ulong source = service->Control->SourceStart + offset;
        for (uint i = 0; i < service->Control->SegmentCount; i++)
        {
            ControlSegment* segment = service->Segments + i;
            if (segment->Length == 0 || segment->Zero != SegmentTable.Content || source - segment->Source >= segment->Length)
                continue;
            ulong destination = segment->Destination + (source - segment->Source);
            SegmentTable.AddPoison(service, segment->Context, destination, length);
            SegmentTable.Cut(service, i, destination, destination + length, mayStay: false);
        }
    }

    /// <summary>Whether a page of a place kept has been replaced by one that was moved there.</summary>
    /// <remarks>MADV_REMOVE knows files only; the place kept is one of them, behind its end, so that it changes nothing there.</remarks>
    public static bool HasArrived(KernelEntry call, ulong page) =>
        Kernel.Advise(call, page, page + Kernel.PageSize, Kernel.MADV_REMOVE) == Kernel.EINVAL;
}

/// <summary>The name of the pages in /proc/PID/maps, where the kernel has names for anonymous memory (CONFIG_ANON_VMA_NAME).</summary>
internal static unsafe class Naming
{
    private const long PR_SET_VMA = 0x53564d41;
    private const long PR_SET_VMA_ANON_NAME = 0;

    public static void Name(KernelEntry call, ulong start, ulong end)
    {
        Words2 name;
        name.First = 0x6d2d70616d6d7670; // "pvmmap-m"
        name.Second = 0x6465766f; // "oved"
        call(SystemCalls.prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, (long)start, (long)(end - start), (long)&name, 0);
    }
}
