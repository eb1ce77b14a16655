using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Pvmmap.Holder.Freestanding;

/// <summary>Messages of one byte over a SOCK_SEQPACKET socket, with descriptors (SCM_RIGHTS).</summary>
internal static unsafe class Messages
{
    private const ulong HeaderLength = 16;
    private const int SOL_SOCKET = 1;
    private const int SCM_RIGHTS = 1;
    private const long MSG_DONTWAIT = 0x40;
    private const long MSG_NOSIGNAL = 0x4000;

    /// <summary>To the other end of the boot socket, or of the sentinel's.</summary>
    public static void Send(KernelEntry call, byte content) =>
        call(SystemCalls.sendto, HolderFds.Socket, (long)&content, 1, MSG_NOSIGNAL, 0, 0);

    /// <summary>With one descriptor, if the other end can take it now.</summary>
    [SkipLocalsInit]
    public static void SendDescriptor(KernelEntry call, int socket, byte content, int descriptor)
    {
        Vector vector;
        Control control;
        Header header;
        control.Length = HeaderLength + 4;
        control.Level = SOL_SOCKET;
        control.Type = SCM_RIGHTS;
        control.Descriptors.First = descriptor;
        Prepare(&header, &vector, &content, &control, HeaderLength + 8);
        call(SystemCalls.sendmsg, socket, (long)&header, MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0, 0);
    }

    /// <summary>Whether a message comes, or the other end is closed, within that time.</summary>
    [SkipLocalsInit]
    public static bool Awaits(KernelEntry call, int milliseconds)
    {
        PollDescriptor socket;
        socket.File = HolderFds.Socket;
        socket.Events = Kernel.PollIn;
        socket.Returned = 0;
        return Kernel.Poll(call, &socket, 1, milliseconds) != 0;
    }

    /// <summary>The next message: how many descriptors came with it, or -1 when the other end is closed.</summary>
    [SkipLocalsInit]
    public static int Receive(KernelEntry call, Descriptors* descriptors)
    {
        byte content = 0;
        Vector vector;
        Control control;
        Header header;
        control.Length = 0;
        Prepare(&header, &vector, &content, &control, (ulong)sizeof(Control));
        long received;
        do
            received = call(SystemCalls.recvmsg, HolderFds.Socket, (long)&header, 0, 0, 0, 0);
        while (received == Kernel.EINTR);
        if (received <= 0)
            return -1;
        *descriptors = control.Descriptors;
        descriptors->Content = content;
        return header.ControlLength < HeaderLength + 4 || control.Length < HeaderLength + 4 ? 0 : (int)((control.Length - HeaderLength) / 4);
    }

    private static void Prepare(Header* header, Vector* vector, byte* content, Control* control, ulong controlLength)
    {
        vector->Base = (ulong)content;
        vector->Length = 1;
        header->Name = 0;
        header->NameLength = 0;
        header->Vectors = (ulong)vector;
        header->VectorCount = 1;
        header->Control = (ulong)control;
        header->ControlLength = controlLength;
        header->Flags = 0;
    }

    // struct iovec.
    [StructLayout(LayoutKind.Sequential)]
    private struct Vector
    {
        public ulong Base;
        public ulong Length;
    }

    // struct cmsghdr, SCM_RIGHTS.
    [StructLayout(LayoutKind.Sequential)]
    private struct Control
    {
        public ulong Length;
        public int Level;
        public int Type;
        public Descriptors Descriptors;
    }

    // struct msghdr.
    [StructLayout(LayoutKind.Sequential)]
    private struct Header
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

/// <summary>The descriptors of a message, and its byte.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct Descriptors
{
    public int First;
    public int Second;
    public int Third;
    public int Fourth;
    public uint Content;
}
