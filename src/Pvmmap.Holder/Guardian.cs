using System.Runtime.CompilerServices;

namespace Pvmmap.Holder.Freestanding;

/// <summary>
/// The second process: when the holder ends before its work does, what is missing must raise SIGBUS, never read as zeros; after
/// a move, whose pages do not end with the holder, it takes the holder's place.
/// </summary>
internal static unsafe class Guardian
{
    private const int AnnouncementMilliseconds = 50;

    private const long IdleMilliseconds = 250;

    public static void SetName(KernelEntry call) => Kernel.SetName(call, 0x672d_7061_6d6d_7670, 0x6e61_6964_7261_75); // "pvmmap-guardian"

    /// <summary>Of a move: in the source's memory, where the pages outlive the holder. Goes on with its work.</summary>
    [SkipLocalsInit]
    public static void RunInSource(HolderBootArguments* arguments)
    {
        KernelEntry call = (KernelEntry)arguments->Syscall;
        SetName(call);
        Service service;
        Service.Initialize(&service, call, (ControlPage*)arguments->Control);
        AwaitEndOfHolder(&service);
        Steps.Reached(call, FillStep.HolderEndSeen);
        service.Recovering = true;
        uint state = Published.Read(&service.Control->State);
        // It was killed before anything was done, or when all was done but the clearing away.
        if (state == ControlState.Starting || ControlState.IsFinal(state))
            Departure.Leave(&service, state == ControlState.Starting ? ControlState.TargetGone : state);
        Kernel.SetName(call, 0x682d_7061_6d6d_7670, 0x7265_646c_6f); // "pvmmap-holder"
        if (state == ControlState.Prepared && service.Control->CallIsOpen != 0)
            Boot.SendServing(call);
        if (service.Control->Committed != 0 && state == ControlState.Prepared)
            Relocation.Resume(&service);
        RecoverMessages(&service);
        Steps.Reached(call, FillStep.MessagesRecovered);
        service.Recovering = false;
        service.IsGuardian = true;
        if (arguments->ImageStart != 0)
            FillWorker.Prepare(&service, arguments);
        service.Cursor = service.Control->SourceStart;
        service.Counted = service.Control->SourceStart;
        service.CountedBytes = service.Control->BytesDone;
        DeliveredPages.TakeOver(&service);
        // The faults that the holder had read are nowhere else: those who wait fault again.
        for (uint i = 0; i < service.Control->ContextCount; i++)
        {
            if (Service.IsAlive(&service, i))
                WakeAll(call, service.Contexts[i].Fd, service.Control->AddressSpaceEnd);
        }
        Loop.Run(&service);
    }

    // At whatever address, for a region that has grown in place is in no table. Below vm.mmap_min_addr nobody is, and EINVAL the answer.
    private static void WakeAll(KernelEntry call, int file, ulong end)
    {
        ulong lowest = Kernel.PageSize;
        while (Userfaultfd.Wake(call, file, lowest, end - lowest) == Kernel.EINVAL && lowest < end / 2)
            lowest *= 2;
    }

    private static void AwaitEndOfHolder(Service* service)
    {
        PollDescriptor holder;
        holder.File = HolderFds.HolderPidfd;
        holder.Events = Kernel.PollIn;
        do
            holder.Returned = 0;
        while (Kernel.Poll(service->Call, &holder, 1, -1) <= 0);
    }

    /// <summary>Waits for the end of the holder and then does what is left to do. Never returns.</summary>
    public static void Run(Service* service)
    {
        AwaitEndOfHolder(service);
        uint state = Published.Read(&service->Control->State);
        // Starting: the caller has not been told that it serves, and takes the region back.
        if (state == ControlState.Starting || state == ControlState.Complete || state == ControlState.TargetGone)
            Kernel.Exit(service->Call, 0);

        PoisonTheRest(service);
    }

    /// <summary>What is missing raises SIGBUS from now on. Never returns.</summary>
    public static void PoisonTheRest(Service* service)
    {
        service->Recovering = true;
        Steps.Reached(service->Call, FillStep.HolderEndSeen);
        RecoverMessages(service);
        Steps.Reached(service->Call, FillStep.MessagesRecovered);
        do
            PoisonAll(service);
        while (Loop.IsEventOutstanding(service));
        // madvise() goes on when its event is read, and takes the poison of that page with it.
        for (int i = 0; service->Announced && i < AnnouncementMilliseconds; i++)
        {
            Kernel.Poll(service->Call, null, 0, 1);
            Delivery.Poison(service, Service.Target, service->Control->PlacedAt, Kernel.PageSize);
        }
        Steps.Reached(service->Call, FillStep.RestPoisoned);
        // Without UFFDIO_POISON the only thing better than zeros is to let them wait, for as long as there is anybody.
        if (service->Control->Withheld != 0)
            Hold(service);
        Loop.End(service, ControlState.Lost);
    }

    // Applies what the holder had read but perhaps not acted on: one event may be applied a second time.
    private static void RecoverMessages(Service* service)
    {
        uint context = service->Control->MessageContext;
        if (context < service->Control->ContextCount && Service.IsAlive(service, context))
            Events.Apply(service, context, ControlPage.MaximumMessages);
    }

    // Entries shrink as they are poisoned, so a remap or a fork in between concerns only what is left; poison moves and forks with the pages.
    private static void PoisonAll(Service* service)
    {
        bool retry;
        do
        {
            retry = false;
            service->Backoff = false;
            service->Unread = 0;
            uint messages = 0;
            for (uint i = 0; i < service->Control->ContextCount; i++)
                messages += Events.Drain(service, i, faults: false);
            LateUnmaps.Settle(service);
            for (uint i = 0; i < service->Control->SegmentCount; i++)
            {
                ControlSegment* segment = service->Segments + i;
                if (segment->Length == 0 || SegmentTable.IsZero(segment->Zero) || !Service.IsAlive(service, segment->Context))
                    continue;
                Outcome outcome = SegmentTable.IsParked(segment->Zero) ? Outcome.Retry : SegmentsToPoison.ServeEntry(service, i);
                if (outcome == Outcome.Gone)
                    Delivery.EndContext(service, segment->Context);
                retry |= outcome == Outcome.Retry;
            }
            if ((retry && messages == 0) || service->Unread != 0)
                Loop.Relax(service);
        }
        while (retry);
    }

    private static void Hold(Service* service)
    {
        Published.Write(&service->Control->State, ControlState.Lost);
        while (Loop.AnybodyLeft(service))
        {
            Loop.Wait(service, IdleMilliseconds, out bool ready);
            for (uint i = 0; i < service->Control->ContextCount; i++)
                Events.Drain(service, i, faults: false);
            if (!ready)
                Loop.EndDeadContexts(service);
        }
    }
}
