using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Pvmmap.Holder.Freestanding;

/// <summary>The first moments of a holder: a fork of the source becomes a process that has the range, this code, and a control page.</summary>
internal static unsafe class Boot
{
    private const long PR_SET_THP_DISABLE = 41;
    private const long CLONE_FILES = 0x400;
    private const long MSG_NOSIGNAL = 0x4000;
    private const long HighestDescriptor = 65535;
    private const long ProtRead = 1;
    private const long ProtReadWrite = 3;
    private const long MapShared = 1;
    private const byte Ready = (byte)'R';
    private const byte Serving = (byte)'S';

    /// <summary>Never returns.</summary>
    [SkipLocalsInit]
    public static void Run(HolderBootArguments* arguments)
    {
        KernelEntry call = (KernelEntry)arguments->Syscall;
        ulong start = arguments->SourceStart;
        ulong end = start + arguments->SourceLength;
        Detach(call, arguments);
        KeepOnly(call, arguments);
        // The guardian inherits the VMAs but no page of them: its fork costs nothing, and its smaps, which would otherwise take a walk over all
        // pages, tell at once what kind of memory the range was at the cut.
        Kernel.WipeOnFork(call, start, end);

        int first;
        int second;
        if (!Receive(call, &first, &second) || second < 0)
            Kernel.Exit(call, 1);
        // Descriptors are handed out in ascending order, so neither move overwrites the other.
        Kernel.MoveDescriptor(call, first, HolderFds.Control);
        Kernel.MoveDescriptor(call, second, HolderFds.Pagemap);
        long mapped = call(SystemCalls.mmap, 0, ControlPage.Size, ProtReadWrite, MapShared, HolderFds.Control, 0);
        if (mapped < 0)
            Kernel.Exit(call, 1);

        ControlPage* control = (ControlPage*)mapped;
        control->SourceStart = start;
        control->SourceLength = end - start;
        Service service;
        Service.Initialize(&service, call, control);
        StartGuardian(&service);
        Send(call, Ready);
        // While the caller looks at what was taken and prepares the target.
        control->BytesTotal = Pagemap.CountBytes(call, start, end);

        if (!Receive(call, &first, &second))
            Kernel.Exit(call, 1);
        Kernel.MoveDescriptor(call, first, HolderFds.Userfaultfd);
        Kernel.SetNonblocking(call, HolderFds.Userfaultfd);
        // Not without need: it walks every page.
        if (control->Unreadable != 0)
            control->Errors += Sweep(call, SystemCalls.pkey_mprotect, start, end);

        service.Contexts[0].Fd = HolderFds.Userfaultfd;
        service.Contexts[0].Alive = 1;
        if (control->ContextCount == 0)
            control->ContextCount = 1;
        Published.Write(&control->State, ControlState.Serving);
        Send(call, Serving);
        // The caller first, should we share its processor: it has a process standing still.
        Kernel.Yield(call);
        // The number is taken at once by a child's userfaultfd, or stays free; the guardian shares the table, so this closes it there too.
        Kernel.Close(call, HolderFds.Socket);
        Loop.Run(&service);
    }

    private static void Detach(KernelEntry call, HolderBootArguments* arguments)
    {
        const long block = 0;
        ulong all = ulong.MaxValue;
        call(SystemCalls.rt_sigprocmask, block, (long)&all, 0, 8, 0, 0);
        Kernel.SetName(call, 0x682d_7061_6d6d_7670, 0x7265_646c_6f); // "pvmmap-holder"
        call(SystemCalls.setsid, 0, 0, 0, 0, 0, 0);
        // khugepaged would turn dropped pages into populated ones.
        call(SystemCalls.prctl, PR_SET_THP_DISABLE, 1, 0, 0, 0, 0);
        Kernel.MoveDescriptor(call, (int)arguments->Socket, HolderFds.Socket);
        if (call(SystemCalls.close_range, 1, uint.MaxValue, 0, 0, 0, 0) >= 0)
            return;
        for (int file = 1; file <= HighestDescriptor; file++)
            Kernel.Close(call, file);
    }

    // Unmaps everything but the image and the source range.
    private static void KeepOnly(KernelEntry call, HolderBootArguments* arguments)
    {
        ulong firstStart = arguments->ImageStart;
        ulong firstEnd = firstStart + arguments->ImageLength;
        ulong secondStart = arguments->SourceStart;
        ulong secondEnd = secondStart + arguments->SourceLength;
        if (secondStart < firstStart)
        {
            ulong start = firstStart;
            ulong end = firstEnd;
            firstStart = secondStart;
            firstEnd = secondEnd;
            secondStart = start;
            secondEnd = end;
        }
        Sweep(call, SystemCalls.munmap, 0, firstStart);
        Sweep(call, SystemCalls.munmap, firstEnd, secondStart);
        Sweep(call, SystemCalls.munmap, secondEnd, SystemCalls.AddressSpaceEnd);
    }

    // Does it to the whole range, or, where one sealed VMA (vDSO, mseal) makes the whole fail, to all but that. Returns how many pages refused.
    // A source page may be unreadable by its protection or by its protection key.
    private static ulong Sweep(KernelEntry call, long number, ulong start, ulong end)
    {
        ulong refused = 0;
        ulong piece = end - start;
        while (start < end)
        {
            if (piece > end - start)
                piece = end - start;
            long result = call(number, (long)start, (long)piece, ProtRead, 0, 0, 0);
            if (result < 0 && number == SystemCalls.pkey_mprotect)
                result = call(SystemCalls.mprotect, (long)start, (long)piece, ProtRead, 0, 0, 0);
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

    private static void StartGuardian(Service* service)
    {
        KernelEntry call = service->Call;
        long self = call(SystemCalls.getpid, 0, 0, 0, 0, 0, 0);
        long pidfd = call(SystemCalls.pidfd_open, self, 0, 0, 0, 0, 0);
        if (pidfd < 0)
            Kernel.Exit(call, 1);
        Kernel.MoveDescriptor(call, (int)pidfd, HolderFds.HolderPidfd);
        // One descriptor table for both: a child's userfaultfd is the guardian's in the instant the holder reads it.
        long guardian = call(SystemCalls.clone, CLONE_FILES, 0, 0, 0, 0, 0);
        if (guardian == 0)
        {
            Kernel.SetName(call, 0x672d_7061_6d6d_7670, 0x6e61_6964_7261_75); // "pvmmap-guardian"
            Guardian.Run(service);
        }
        if (guardian < 0)
            Kernel.Exit(call, 1);
        service->Control->GuardianPid = (int)guardian;
    }

    private static void Send(KernelEntry call, byte message) =>
        call(SystemCalls.sendto, HolderFds.Socket, (long)&message, 1, MSG_NOSIGNAL, 0, 0);

    // One message with one or two descriptors; -1 for a second one that is not there. False when the caller is gone.
    [SkipLocalsInit]
    private static bool Receive(KernelEntry call, int* first, int* second)
    {
        const ulong headerLength = 16;
        byte content;
        Vector vector;
        vector.Base = (ulong)&content;
        vector.Length = 1;
        ControlMessage control;
        control.Length = 0;
        MessageHeader message;
        message.Name = 0;
        message.NameLength = 0;
        message.Vectors = (ulong)&vector;
        message.VectorCount = 1;
        message.Control = (ulong)&control;
        message.ControlLength = (ulong)sizeof(ControlMessage);
        message.Flags = 0;
        long received;
        do
            received = call(SystemCalls.recvmsg, HolderFds.Socket, (long)&message, 0, 0, 0, 0);
        while (received == Kernel.EINTR);
        if (received <= 0 || message.ControlLength < headerLength + 4 || control.Length < headerLength + 4)
            return false;
        *first = control.FirstDescriptor;
        *second = control.Length >= headerLength + 8 ? control.SecondDescriptor : -1;
        return true;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Vector
    {
        public ulong Base;
        public ulong Length;
    }

    // struct cmsghdr, SCM_RIGHTS.
    [StructLayout(LayoutKind.Sequential)]
    private struct ControlMessage
    {
        public ulong Length;
        public int Level;
        public int Type;
        public int FirstDescriptor;
        public int SecondDescriptor;
        public ulong Rest;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct MessageHeader
    {
        public ulong Name;
        public ulong NameLength;
        public ulong Vectors;
        public ulong VectorCount;
        public ulong Control;
        public ulong ControlLength;
        public ulong Flags;
    }
}
