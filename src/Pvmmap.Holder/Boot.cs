using System.Runtime.CompilerServices;

namespace Pvmmap.Holder.Freestanding;

/// <summary>The first moments of a holder: a fork of the source becomes a process that has the range, this code, and a control page.</summary>
internal static unsafe class Boot
{
    private const long RLIMIT_CORE = 4;
    private const long MPOL_DEFAULT = 0;
    private const byte Probing = (byte)'P';
    private const byte Probed = (byte)'Q';

    // A thread of the caller that waits for the page may keep the caller from answering: a garbage collector stops all or none.
    private const int ProbeMilliseconds = 200;
    private const byte Ready = (byte)'R';
    private const byte FillHugePages = (byte)'H';
    private const byte HugePagesFilled = (byte)'F';
    private const byte Serving = (byte)'S';
    private const byte NoRoom = (byte)'N';

    /// <summary>Never returns.</summary>
    [SkipLocalsInit]
    public static void Run(HolderBootArguments* arguments)
    {
        KernelEntry call = (KernelEntry)arguments->Syscall;
        bool move = arguments->Move != 0;
        ulong start = arguments->SourceStart;
        ulong end = start + arguments->SourceLength;
        Detach(call, arguments);
        if (arguments->Keep != 0)
            Keeper.Run(call, arguments->Keep);
        if (move)
        {
            // A child that the source forks from now on has nothing to do with us.
            Kernel.Advise(call, arguments->ImageStart, arguments->ImageStart + arguments->ImageLength, Kernel.MADV_DONTFORK);
        }
        else
        {
            // khugepaged would turn dropped pages into populated ones.
            Kernel.DisableHugePages(call);
            if (arguments->Postpones != 0)
                Inheritance.Postpone(call, arguments);
            else
                Inheritance.GiveUp(call, arguments);
            // The guardian inherits the VMAs but no page of them: its fork costs nothing, and its smaps, which would otherwise take a walk over
            // all pages, tell at once what kind of memory the range was at the cut.
            Kernel.Advise(call, start, end, Kernel.MADV_WIPEONFORK);
        }

        Descriptors received;
        // They come in ascending order, so that no move overwrites another.
        long mapped = Messages.Receive(call, &received) == (move ? HolderFds.Userfaultfd - HolderFds.Control : 2) ? MapControl(call) : Kernel.ECHILD;
        if (mapped == Kernel.ENOMEM && arguments->Postpones != 0)
        {
            Inheritance.GiveUpAtOnce(call, arguments);
            mapped = MapControl(call);
        }
        if (mapped < 0)
        {
            if (mapped != Kernel.ECHILD)
                Messages.Send(call, NoRoom);
            Abandon(call, arguments);
        }

        ControlPage* control = (ControlPage*)mapped;
        arguments->Control = (ulong)mapped;
        Steps.Reached(call, FillStep.ControlMapped);
        control->TakenFrom = start;
        control->SourceStart = start;
        control->SourceLength = end - start;
        Service service;
        Service.Initialize(&service, call, control);
        if (arguments->Postpones != 0)
            service.Postponed = arguments;
        FillWorker.Prepare(&service, arguments);
        if (move)
        {
            control->Move = 1;
            control->ImageStart = arguments->ImageStart;
            control->ImageLength = arguments->ImageLength;
            Kernel.Advise(call, (ulong)mapped, (ulong)mapped + ControlPage.Size, Kernel.MADV_DONTFORK);
        }
        long error = StartGuardian(&service, arguments);
        Steps.Reached(call, FillStep.GuardianStarted);
        if (error >= 0 && move)
            error = Relocation.Reserve(&service);
        if (move)
            Steps.Reached(call, FillStep.PlaceReserved);
        if (error < 0)
            Fail(&service, error);
        // Nothing may stop the move later; nor keep the page that is probed from coming back.
        bool probes = move && AttributeProbe.IsWanted(&service);
        if (move && !probes && !Relocation.HasRoom(call, Relocation.Mappings))
            Fail(&service, Kernel.ENOMEM);
        if (probes && AttributeProbe.Place(&service))
        {
            Steps.Reached(call, FillStep.ProbePlaced);
            Messages.Send(call, Probing);
            bool answered = !Messages.Awaits(call, ProbeMilliseconds) || Messages.Receive(call, &received) >= 0;
            AttributeProbe.Restore(&service);
            Steps.Reached(call, FillStep.ProbeRestored);
            if (!answered)
                Departure.Leave(&service, ControlState.TargetGone);
        }
        if (!move)
            Loop.CountLater(&service);
        Messages.Send(call, Ready);
        Steps.Reached(call, FillStep.ReadySent);

        // Nothing, or no descriptor: the call is given up.
        int descriptors = Messages.Receive(call, &received);
        if (descriptors == 0 && received.Content == Probed)
            descriptors = Messages.Receive(call, &received);
        if (descriptors == 1 && received.Content == FillHugePages)
        {
            Inheritance.GiveUpLater(&service);
            // The caller looks whether every byte has been written.
            Loop.CountNow(&service);
            HugePageFill.Run(&service, received.First);
            Messages.Send(call, HugePagesFilled);
            descriptors = Messages.Receive(call, &received);
        }
        if (descriptors <= 0)
            Departure.Leave(&service, ControlState.TargetGone);
        Kernel.MoveDescriptor(call, received.First, HolderFds.Userfaultfd);
        if (descriptors > 1)
            Kernel.MoveDescriptor(call, received.Second, HolderFds.Lifeline);
        Kernel.SetNonblocking(call, HolderFds.Userfaultfd);
        Steps.Reached(call, FillStep.UserfaultfdReceived);
        if (!move && DropWhatIsNotOwed(&service))
            Loop.CountLater(&service);
        // Not without need: it walks every page.
        if (control->Unreadable != 0 && !move)
            MakeReadable(&service);

        service.Contexts[0].Fd = HolderFds.Userfaultfd;
        service.Contexts[0].Alive = 1;
        if (control->ContextCount == 0)
            control->ContextCount = 1;
        control->CallIsOpen = 1;
        control->StartedAt = Kernel.Now(call);
        Published.Write(&control->State, move ? ControlState.Prepared : ControlState.Serving);
        Steps.Reached(call, FillStep.StatePublished);
        Messages.Send(call, Serving);
        Steps.Reached(call, FillStep.ServingSent);
        Loop.Run(&service);
    }

    /// <summary>Lifts what protects pages of the range against reading; what refuses is poisoned when its turn comes.</summary>
    public static void MakeReadable(Service* service)
    {
        ulong start = service->Control->SourceStart;
        ulong end = start + service->Control->SourceLength;
        while (start < end)
        {
            bool owed = SegmentTable.IsOwed(service, start, end, out ulong next);
            if (next > end)
                next = end;
            if (owed)
                service->Control->Errors += Sweep(service->Call, SystemCalls.pkey_mprotect, start, next);
            start = next;
        }
    }

    // Pieces that are not private anonymous memory: the target has them already.
    private static bool DropWhatIsNotOwed(Service* service)
    {
        ulong start = service->Control->SourceStart;
        ulong end = start + service->Control->SourceLength;
        bool dropped = false;
        while (start < end)
        {
            bool owed = SegmentTable.IsOwed(service, start, end, out ulong next);
            if (!owed)
                Sweep(service->Call, SystemCalls.munmap, start, next);
            dropped |= !owed;
            start = next;
        }
        return dropped;
    }

    private static void Detach(KernelEntry call, HolderBootArguments* arguments)
    {
        const long block = 0;
        ulong all = ulong.MaxValue;
        call(SystemCalls.rt_sigprocmask, block, (long)&all, 0, 8, 0, 0);
        Kernel.SetName(call, 0x682d_7061_6d6d_7670, 0x7265_646c_6f); // "pvmmap-holder"
        call(SystemCalls.setsid, 0, 0, 0, 0, 0, 0);
        // Ours would stand in numa_maps for every VMA that has none; an error says that the kernel knows of none.
        call(SystemCalls.set_mempolicy, MPOL_DEFAULT, 0, 0, 0, 0, 0);
        // No file system stays busy because of us.
        ushort root = '/';
        call(SystemCalls.chdir, (long)&root, 0, 0, 0, 0, 0);
        // 1: no core dump of ours, not even through a pipe (fs/coredump.c); in a move it would be one of the source.
        Words2 limit;
        limit.First = 1;
        limit.Second = 1;
        call(SystemCalls.prlimit64, 0, RLIMIT_CORE, (long)&limit, 0, 0, 0);
        OpenFiles.RaiseLimit(call);
        Kernel.MoveDescriptor(call, (int)arguments->Socket, HolderFds.Socket);
        OpenFiles.CloseFrom(call, HolderFds.Socket + 1, arguments->Without);
    }

    private static void Fail(Service* service, long error)
    {
        service->Control->LastError = error;
        Departure.Leave(service, ControlState.TargetGone);
    }

    // The caller went away before it had given us a control page, or there is no room for it.
    private static void Abandon(KernelEntry call, HolderBootArguments* arguments)
    {
        if (arguments->Move != 0)
            Departure.Vanish(call, arguments->ImageStart, arguments->ImageLength, (uint)arguments->Without);
        Kernel.Exit(call, 1);
    }

    /// <summary>
    /// Does it to the whole range, or, where one sealed VMA (vDSO, mseal) makes the whole fail, to all but that. Returns how many pages refused.
    /// A source page may be unreadable by its protection or by its protection key.
    /// </summary>
    public static ulong Sweep(KernelEntry call, long number, ulong start, ulong end)
    {
        ulong refused = 0;
        ulong piece = end - start;
        while (start < end)
        {
            if (piece > end - start)
                piece = end - start;
            long result = call(number, (long)start, (long)piece, Kernel.PROT_READ, 0, 0, 0);
            if (result < 0 && number == SystemCalls.pkey_mprotect)
                result = call(SystemCalls.mprotect, (long)start, (long)piece, Kernel.PROT_READ, 0, 0, 0);
            if (result < 0 && piece > Kernel.PageSize)
            {
                piece = (piece / 2 + Kernel.PageSize - 1) & ~(Kernel.PageSize - 1);
                continue;
            }
            if (result < 0)
                refused++;
            start += piece;
            piece *= 2;
        }
        return refused;
    }

    private static long StartGuardian(Service* service, HolderBootArguments* arguments)
    {
        KernelEntry call = service->Call;
        long self = call(SystemCalls.getpid, 0, 0, 0, 0, 0, 0);
        service->Control->HolderOwnPid = (int)self;
        long pidfd = call(SystemCalls.pidfd_open, self, 0, 0, 0, 0, 0);
        if (pidfd < 0)
            return pidfd;
        Kernel.MoveDescriptor(call, (int)pidfd, HolderFds.HolderPidfd);
        // One descriptor table for both: a child's userfaultfd is the guardian's in the instant the holder reads it.
        long guardian;
        if (arguments->Move != 0)
        {
            // One memory for both too: the guardian can go on with what the holder began.
            ImageHeader* header = (ImageHeader*)(arguments->ImageStart + ImageHeader.Offset);
            var clone = (delegate*<long, ulong, ulong, ulong, long>)(arguments->ImageStart + header->CloneCall);
            delegate*<HolderBootArguments*, void> main = &Guardian.RunInSource;
            guardian = clone(Kernel.CLONE_VM | Kernel.CLONE_FILES | Kernel.CLONE_UNTRACED, GuardianStackTop(arguments), (ulong)main, (ulong)arguments);
        }
        else
        {
            guardian = ForkGuardian(service);
            // Perhaps for want of memory.
            if (guardian < 0 && service->Postponed != null)
            {
                Inheritance.GiveUpLater(service);
                guardian = ForkGuardian(service);
            }
        }
        if (guardian < 0)
            return guardian;
        service->Control->GuardianPid = (int)guardian;
        return 0;
    }

    private static long ForkGuardian(Service* service)
    {
        long guardian = service->Call(SystemCalls.clone, Kernel.CLONE_FILES | Kernel.CLONE_UNTRACED, 0, 0, 0, 0, 0);
        if (guardian == 0)
        {
            Guardian.SetName(service->Call);
            Guardian.Run(service);
        }
        return guardian;
    }

    private static long MapControl(KernelEntry call) =>
        call(SystemCalls.mmap, 0, ControlPage.Size, Kernel.PROT_READ | Kernel.PROT_WRITE, Kernel.MAP_SHARED, HolderFds.Control, 0);

    // Below the holder's stack, which is the last part of the image.
    private static ulong GuardianStackTop(HolderBootArguments* arguments) =>
        arguments->ImageStart + arguments->ImageLength - HolderBootArguments.HolderStackBytes;

    /// <summary>In a guardian that takes over while the call is open: the caller may still wait for this word, and reads no more after it.</summary>
    public static void SendServing(KernelEntry call) => Messages.Send(call, Serving);
}
