using System.Runtime.CompilerServices;

namespace Pvmmap.Holder.Freestanding;

/// <summary>The holder's loop: events first, then one batch, then again.</summary>
internal static unsafe class Loop
{
    private const long IdleMilliseconds = 250;
    /// <summary>One past the numbers that a descriptor of a holder may have. It needs as many as <see cref="HolderFds"/> names, and one for each context.</summary>
    public const int MostDescriptors = 1024;
    private const long BackoffMilliseconds = 5;
    private const long MomentMilliseconds = 1;

    /// <summary>What the caller has still to do when it has said that the call is over, and room for as much again.</summary>
    private const long ReturnMicroseconds = 100;

    /// <summary>25 us, for pages of 4 KiB.</summary>
    public const ulong CountSlice = 8 * 1024 * 1024;

    /// <summary>Serves until <see cref="End"/>.</summary>
    public static void Run(Service* service)
    {
        uint idleRounds = 0;
        for (;;)
        {
            service->Backoff = false;
            service->Unread = 0;
            uint messages = 0;
            bool ready = true;
            if (FillWorker.IsAtWork(service))
            {
                Wait(service, 0, out ready);
                if (ready)
                    FillWorker.Pause(service);
            }
            for (uint i = 0; ready && i < service->Control->ContextCount; i++)
                messages += Events.Drain(service, i, faults: true);
            if (Relocation.IsAwaited(service))
            {
                if (SegmentTable.HasContent(service, Service.Target))
                {
                    Wait(service, IdleMilliseconds, out bool told);
                    if (!told)
                        EndDeadContexts(service);
                }
                // A child forked meanwhile does not know of the region, and cannot take it.
                if (!SegmentTable.HasContent(service, Service.Target))
                    End(service, ControlState.TargetGone);
                continue;
            }
            LateUnmaps.Settle(service);
            Faults.ServePending(service);
            SegmentsToPoison.Serve(service);
            if (Service.CountAlive(service) == 0)
            {
                if (!AnybodyLeft(service))
                    End(service, ControlState.TargetGone);
                Wait(service, IdleMilliseconds, out _);
                continue;
            }

            if (service->Control->CallIsOpen != 0 && AwaitEndOfCall(service))
                continue;
            if (service->Postponed != null)
            {
                Inheritance.GiveUpLater(service);
                continue;
            }
            Count(service, service->CountSlice);
            SourceEnd.Watch(service, idle: false);
            if (!service->FillEnded && BackgroundFill.IsWanted(service))
            {
                if (BackgroundFill.MustWait(service, messages != 0))
                    continue;
                // What is parked is owed, and in no place to be delivered to. The copies would be refused all the same.
                if ((service->Control->Unsettled != 0 || !BackgroundFill.Step(service)) && messages == 0)
                    Relax(service);
                continue;
            }
            if (service->Counted != 0)
                continue;
            if (messages != 0)
            {
                if (idleRounds != 0)
                    Spin.Pays(service, idleRounds);
                idleRounds = 0;
                // To look once more would keep waiting whoever has just got a page.
                if (!Spin.IsWorthwhile(service) && service->PendingCount == 0)
                    Idle(service);
            }
            else if (service->PendingCount != 0)
                Relax(service);
            else if (++idleRounds == Spin.RoundsBeforeAround)
                Faults.ServeAround(service);
            else if (idleRounds >= Spin.Rounds(service))
            {
                Idle(service);
                idleRounds = 0;
            }
        }
    }

    // Sleeps. What can wait is done when nobody has come for a moment.
    private static void Idle(Service* service)
    {
        Spin.Ends(service);
        bool ready = false;
        if (service->AroundBytes != 0 || service->Control->DeliveredCount != 0)
        {
            Wait(service, MomentMilliseconds, out ready);
            if (!ready)
            {
                Faults.ServeAround(service);
                DeliveredPages.Drop(service);
            }
            return;
        }
        Receipts.Settle(service);
        CompleteIfDone(service);
        Wait(service, IdleMilliseconds, out ready);
        SourceEnd.Watch(service, idle: true);
        if (!ready)
        {
            EndDeadContexts(service);
            Receipts.Settle(service);
            CompleteIfDone(service);
        }
    }

    /// <summary>Publishes the last state and ends this process.</summary>
    public static void End(Service* service, uint state) => Departure.Leave(service, state);

    /// <summary>
    /// Leaves the populated pages to be counted behind the call, slice by slice: the caller would have to wait for its processor meanwhile.
    /// Until then the whole range is an upper bound.
    /// </summary>
    public static void CountLater(Service* service)
    {
        service->Control->BytesTotal = service->Control->SourceLength;
        service->Counted = service->Control->SourceStart;
        service->CountedBytes = 0;
    }

    /// <summary>Counts them, if that was left for later.</summary>
    public static void CountNow(Service* service)
    {
        Count(service, service->Control->SourceLength);
    }

    // So much of what has been left for later.
    private static void Count(Service* service, ulong most)
    {
        if (service->Counted == 0)
            return;
        ulong end = service->Control->SourceStart + service->Control->SourceLength;
        ulong slice = end - service->Counted > most ? service->Counted + most : end;
        service->CountedBytes += Pagemap.CountBytes(service, service->Counted, slice);
        service->Counted = slice;
        if (slice < end)
            return;
        service->Counted = 0;
        service->Control->BytesTotal = service->CountedBytes;
    }

    // True if something else came first.
    private static bool AwaitEndOfCall(Service* service)
    {
        Wait(service, IdleMilliseconds, out _);
        PollDescriptor socket;
        socket.File = HolderFds.Socket;
        socket.Events = Kernel.PollIn;
        socket.Returned = 0;
        if (Kernel.Poll(service->Call, &socket, 1, 0) == 0)
            return true;
        // In this order, for the guardian: from here on the number is nobody's, or that of a child's userfaultfd. It shares
        // the table, so this closes it there too.
        Published.Write(&service->Control->CallIsOpen, 0);
        Kernel.Close(service->Call, HolderFds.Socket);
        // A message wakes its reader on the writer's processor, before the writer goes on (WF_SYNC): the first batch would keep the caller, who has next to nothing left to do,
        // from returning for a time slice. Asleep once more, the holder is woken on another one, if that is idle.
        WaitBriefly(service, ReturnMicroseconds, out bool ready);
        return ready;
    }

    /// <summary>Sleeps until a context has a message or the time is over.</summary>
    public static void Wait(Service* service, long milliseconds, out bool ready) => WaitBriefly(service, milliseconds * 1000, out ready);

    /// <summary>The same for less.</summary>
    [SkipLocalsInit]
    public static void WaitBriefly(Service* service, long microseconds, out bool ready)
    {
        PollDescriptors buffer;
        PollDescriptor* descriptors = &buffer.First;
        uint count = 0;
        for (uint i = 0; i < service->Control->ContextCount; i++)
        {
            if (!Service.IsAlive(service, i) || (service->Unread >> (int)i & 1) != 0)
                continue;
            descriptors[count].File = service->Contexts[i].Fd;
            descriptors[count].Events = Kernel.PollIn;
            descriptors[count].Returned = 0;
            count++;
        }
        uint contexts = count;
        if (service->Control->CallIsOpen != 0 && !Relocation.IsAwaited(service))
        {
            descriptors[count].File = HolderFds.Socket;
            descriptors[count].Events = Kernel.PollIn;
            descriptors[count].Returned = 0;
            count++;
        }
        else if (service->Control->Move != 0 && !service->SourceExited && !service->SourceReleased && !Relocation.IsAwaited(service))
        {
            descriptors[count].File = HolderFds.SourcePidfd;
            descriptors[count].Events = Kernel.PollIn;
            descriptors[count].Returned = 0;
            count++;
        }
        if (service->Unread != 0 && microseconds > BackoffMilliseconds * 1000)
            microseconds = BackoffMilliseconds * 1000;
        long result = Kernel.PollBriefly(service->Call, descriptors, count, microseconds);
        ready = result > 0 && (count == contexts || result > 1 || descriptors[contexts].Returned == 0);
    }

    /// <summary>The context's event cannot be read now. The others are waited for meanwhile, and not for long.</summary>
    public static void TryLater(Service* service, uint context)
    {
        service->Backoff = true;
        service->Unread |= 1UL << (int)context;
    }

    /// <summary>
    /// Whether an event waits to be read. Asked after the ranges were unregistered, the answer holds: the kernel announces an event under the
    /// lock that unregistering takes, and refuses copies from then on.
    /// </summary>
    public static bool IsEventOutstanding(Service* service)
    {
        ulong end = service->Control->AddressSpaceEnd;
        for (uint i = 0; i < service->Control->ContextCount; i++)
        {
            if (Service.IsAlive(service, i)
                && Delivery.Probe(service, service->Contexts[i].Fd, end - Kernel.PageSize, end) == Kernel.EAGAIN)
                return true;
        }
        return false;
    }

    /// <summary>Ends the contexts whose address space is gone, but one: a userfaultfd does not tell.</summary>
    public static void EndDeadContexts(Service* service, uint except = Service.NoContext)
    {
        for (uint i = 0; i < service->Control->ContextCount; i++)
        {
            if (i != except && Service.IsAlive(service, i) && Delivery.IsGone(service, service->Contexts[i].Fd))
                Delivery.EndContext(service, i);
        }
    }

    /// <summary>Whether anybody would read zeros if our userfaultfds were closed: a context, or a child for which there was no room.</summary>
    public static bool AnybodyLeft(Service* service)
    {
        if (Service.CountAlive(service) != 0)
            return true;
        bool stranger = false;
        for (int file = 0; service->Control->Withheld != 0 && file < MostDescriptors; file++)
        {
            if (IsOurs(service, file))
                continue;
            if (Delivery.IsGone(service, file))
                Kernel.Close(service->Call, file);
            else
                stranger |= Delivery.IsUserfaultfd(service, file);
        }
        return stranger;
    }

    // Without a move, or a sentinel, the numbers of their files are free: any of them may be a child's userfaultfd.
    private static bool IsOurs(Service* service, int file) =>
        file == HolderFds.Control || file == HolderFds.Pagemap || file == HolderFds.HolderPidfd
            || (service->Control->Move != 0 && file >= HolderFds.SourcePidfd && file <= HolderFds.Proc)
            || (service->Control->SentinelPid != 0 && file == HolderFds.Lifeline);

    private static void CompleteIfDone(Service* service)
    {
        if (service->FillEnded || service->Counted != 0 || Service.CountAlive(service) == 0)
            return;
        if (service->Control->BytesDone >= service->Control->BytesTotal && BackgroundFill.NothingLeft(service))
            BackgroundFill.Complete(service);
    }

    /// <summary>The event we wait for is being sent by a thread that may need this very processor.</summary>
    public static void Relax(Service* service)
    {
        if (service->Backoff)
            Wait(service, BackoffMilliseconds, out _);
        else
            Kernel.Yield(service->Call);
    }
}
