using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

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
        const long block = 0;
        ulong all = ulong.MaxValue;
        call(SystemCalls.rt_sigprocmask, block, (long)&all, 0, 8, 0, 0);
        call(SystemCalls.setsid, 0, 0, 0, 0, 0, 0);
        ushort root = '/';
        call(SystemCalls.chdir, (long)&root, 0, 0, 0, 0, 0);
        // Both are far above the numbers they get (see SentinelProcess).
        call(SystemCalls.dup3, arguments->Socket, HolderFds.Socket, 0, 0, 0, 0);
        call(SystemCalls.dup3, arguments->Program, Program, Kernel.O_CLOEXEC, 0, 0, 0);
        call(SystemCalls.close_range, Program + 1, uint.MaxValue, 0, 0, 0, 0);
        ulong nothing = 0;
        Words2 argv;
        argv.First = (ulong)&arguments->Name;
        argv.Second = 0;
        arguments->Error = call(SystemCalls.execveat, Program, (long)&nothing, (long)&argv, (long)&nothing, AT_EMPTY_PATH, 0);
    }

    /// <summary>The program. Never returns.</summary>
    [SkipLocalsInit]
    public static void Main(KernelEntry call)
    {
        Kernel.SetName(call, 0x732d_7061_6d6d_7670, 0x6c65_6e69_746e_65); // "pvmmap-sentinel"
        Received received;
        if (!Receive(call, &received) || received.Count != 2)
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
        byte ready = Ready;
        call(SystemCalls.sendto, HolderFds.Socket, (long)&ready, 1, Kernel.MSG_NOSIGNAL, 0, 0);
        while (Receive(call, &received))
        {
            // The userfaultfd of a child of the target, and the number of its context.
            if (received.Count != 1 || received.Content >= ControlPage.MaximumContexts)
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
    [SkipLocalsInit]
    public static void Announce(Service* service, uint context, int file)
    {
        byte content = (byte)context;
        Vector vector;
        vector.Base = (ulong)&content;
        vector.Length = 1;
        Control control;
        control.Length = 20;
        control.Level = SOL_SOCKET;
        control.Type = SCM_RIGHTS;
        control.First = file;
        Message message;
        message.Name = 0;
        message.NameLength = 0;
        message.Vectors = (ulong)&vector;
        message.VectorCount = 1;
        message.Control = (ulong)&control;
        message.ControlLength = 24;
        message.Flags = 0;
        service->Call(SystemCalls.sendmsg, HolderFds.Lifeline, (long)&message, Kernel.MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0, 0);
    }

    private const int SOL_SOCKET = 1;
    private const int SCM_RIGHTS = 1;
    private const long MSG_DONTWAIT = 0x40;

    // One message; false when the other end is closed.
    [SkipLocalsInit]
    private static bool Receive(KernelEntry call, Received* received)
    {
        byte content = 0;
        Vector vector;
        vector.Base = (ulong)&content;
        vector.Length = 1;
        Control control;
        control.Length = 0;
        Message message;
        message.Name = 0;
        message.NameLength = 0;
        message.Vectors = (ulong)&vector;
        message.VectorCount = 1;
        message.Control = (ulong)&control;
        message.ControlLength = (ulong)sizeof(Control);
        message.Flags = 0;
        long bytes;
        do
            bytes = call(SystemCalls.recvmsg, HolderFds.Socket, (long)&message, 0, 0, 0, 0);
        while (bytes == Kernel.EINTR);
        if (bytes <= 0)
            return false;
        received->Content = content;
        received->Count = message.ControlLength < 20 || control.Length < 20 ? 0 : (int)((control.Length - 16) / 4);
        received->First = control.First;
        received->Second = control.Second;
        return true;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Received
    {
        public byte Content;
        public int Count;
        public int First;
        public int Second;
    }

    [StructLayout(LayoutKind.Sequential, Size = ControlPage.MaximumContexts * 4)]
    private struct Children
    {
        public int First;
    }

    // struct iovec, struct cmsghdr with descriptors, struct msghdr.
    [StructLayout(LayoutKind.Sequential)]
    private struct Vector
    {
        public ulong Base;
        public ulong Length;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Control
    {
        public ulong Length;
        public int Level;
        public int Type;
        public int First;
        public int Second;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Message
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
