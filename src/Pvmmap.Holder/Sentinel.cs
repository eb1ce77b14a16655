using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Pvmmap.Linux;

namespace Pvmmap.Holder.Freestanding;

/// <summary>
/// The third process: for the case that holder and guardian both are destroyed, by an out-of-memory kill of the memory they share, or with the
/// cgroup or pid namespace of the source. A program of its own (execve of the image), with a memory of its own, a child of the caller. All it does
/// is to poison what is missing then.
/// </summary>
internal static unsafe class Sentinel
{
    private const long AT_EMPTY_PATH = 0x1000;
    private const byte Ready = (byte)'R';
    private const int Program = 1;

    /// <summary>In a child that still shares the caller's memory: keeps the socket and the program, and becomes the program.</summary>
    public static void Become(SentinelArguments* arguments)
    {
        KernelEntry call = (KernelEntry)arguments->Syscall;
        call(SystemCalls.set_tid_address, (long)&arguments->IsHere, 0, 0, 0, 0, 0);
        const long block = 0;
        ulong all = ulong.MaxValue;
        call(SystemCalls.rt_sigprocmask, block, (long)&all, 0, 8, 0, 0);
        call(SystemCalls.setsid, 0, 0, 0, 0, 0, 0);
        ushort root = '/';
        call(SystemCalls.chdir, (long)&root, 0, 0, 0, 0, 0);
        // Both are far above the numbers they get (see SentinelProcess).
        call(SystemCalls.dup3, arguments->Socket, HolderFds.Socket, 0, 0, 0, 0);
        call(SystemCalls.dup3, arguments->Program, Program, Kernel.O_CLOEXEC, 0, 0, 0);
        OpenFiles.CloseFrom(call, Program + 1, arguments->Without);
        ulong nothing = 0;
        Words2 argv;
        argv.First = (ulong)&arguments->Name;
        argv.Second = 0;
        arguments->Error = (arguments->Without & KernelFeature.MemfdExec) != 0 ? Kernel.EACCES : call(SystemCalls.execveat, Program, (long)&nothing, (long)&argv, (long)&nothing, AT_EMPTY_PATH, 0);
    }

    /// <summary>The program. Never returns.</summary>
    [SkipLocalsInit]
    public static void Run(KernelEntry call)
    {
        Kernel.SetName(call, 0x732d_7061_6d6d_7670, 0x6c65_6e69_746e_65); // "pvmmap-sentinel"
        OpenFiles.RaiseLimit(call);
        Descriptors received;
        if (Messages.Receive(call, &received) != 2)
            Kernel.Exit(call, 1);
        // They came as 1 and 2.
        long mapped = call(SystemCalls.mmap, 0, ControlPage.Size, Kernel.PROT_READ | Kernel.PROT_WRITE, Kernel.MAP_SHARED, received.First, 0);
        if (mapped < 0)
            Kernel.Exit(call, 1);
        ControlPage* control = (ControlPage*)mapped;
        Children children;
        int* files = &children.First;
        for (int i = 0; i < ControlPage.MaximumContexts; i++)
            files[i] = -1;
        files[0] = received.Second;
        Messages.Send(call, Ready);
        for (;;)
        {
            int count = Messages.Receive(call, &received);
            if (count < 0)
                break;
            // The userfaultfd of a child of the target, and the number of its context.
            if (count != 1 || received.Content >= ControlPage.MaximumContexts)
                continue;
            if (files[received.Content] >= 0)
                Kernel.Close(call, files[received.Content]);
            files[received.Content] = received.First;
        }
        // Nobody else has the socket any more.
        uint state = Published.Read(&control->State);
        if (ControlState.IsFinal(state))
            Kernel.Exit(call, 0);
        Service service;
        Service.Initialize(&service, call, control);
        service.IsSentinel = true;
        for (uint i = 0; i < ControlPage.MaximumContexts; i++)
        {
            service.Contexts[i].Fd = files[i];
            if (files[i] < 0)
                service.Contexts[i].Alive = 0;
        }
        Guardian.PoisonTheRest(&service);
    }

    /// <summary>Hands the userfaultfd of a target's child on to it, should there be one.</summary>
    public static void Announce(Service* service, uint context, int file) =>
        Messages.SendDescriptor(service->Call, HolderFds.Lifeline, (byte)context, file);

    [StructLayout(LayoutKind.Sequential, Size = ControlPage.MaximumContexts * 4)]
    private struct Children
    {
        public int First;
    }
}
