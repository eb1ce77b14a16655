using System.Runtime.InteropServices;

namespace Pvmmap.Linux;

/// <summary>Pairs of connected local sockets that keep message boundaries, and descriptors passed over them (unix(7), SCM_RIGHTS).</summary>
internal static unsafe class UnixSocket
{
    public const int AF_UNIX = 1;
    public const int SOCK_DGRAM = 2;
    public const int SOCK_SEQPACKET = 5;
    public const int SOCK_CLOEXEC = 0x80000;
    public const int SOL_SOCKET = 1;
    public const int SCM_RIGHTS = 1;
    public const int SCM_CREDENTIALS = 2;
    public const int SO_PASSCRED = 16;
    public const int SHUT_WR = 1;
    public const int MSG_DONTWAIT = 0x40;
    public const int MSG_NOSIGNAL = 0x4000;
    public const int MSG_CMSG_CLOEXEC = 0x40000000;
    private const int MaximumDescriptors = 6;
    public const int LongestAddress = 110; // sizeof(struct sockaddr_un)

    [StructLayout(LayoutKind.Sequential)]
    public struct MessageHeader
    {
        public ulong Name;
        public uint NameLength;
        public ulong Vector;
        public ulong VectorCount;
        public ulong Control;
        public ulong ControlLength;
        public int Flags;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct ControlMessage
    {
        public ulong Length;
        public int Level;
        public int Type;
        public fixed int Descriptors[MaximumDescriptors];
    }

    public static (FileDescriptor Here, FileDescriptor There) Pair()
    {
        int* pair = stackalloc int[2];
        SystemCall.Invoke(SystemCall.SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, (long)pair).OrThrow("make a socket pair");
        return (new FileDescriptor(pair[0]), new FileDescriptor(pair[1]));
    }

    /// <summary>Connects a datagram socket to itself, under a name that the kernel makes up: it receives what is sent through it.</summary>
    public static Errno ConnectToItself(FileDescriptor socket)
    {
        byte* address = stackalloc byte[LongestAddress];
        SyscallResult result = BindToAnyName(socket, address, out int length);
        if (!result.Failed) result = SystemCall.Invoke(SystemCall.SYS_connect, socket.Number, (long)address, length);
        return result.Errno;
    }

    /// <summary>Gives a socket a name that the kernel makes up, in the abstract namespace of its network namespace.</summary>
    /// <param name="socket">The socket.</param>
    /// <param name="address">Gets the address: <see cref="LongestAddress"/> bytes.</param>
    /// <param name="length">Bytes of it.</param>
    public static SyscallResult BindToAnyName(FileDescriptor socket, byte* address, out int length)
    {
        int bytes = length = LongestAddress;
        *(ushort*)address = AF_UNIX;
        SyscallResult result = SystemCall.Invoke(SystemCall.SYS_bind, socket.Number, (long)address, sizeof(ushort));
        if (!result.Failed) result = SystemCall.Invoke(SystemCall.SYS_getsockname, socket.Number, (long)address, (long)&bytes);
        length = bytes;
        return result;
    }

    /// <summary>Sends one byte with descriptors. EPIPE or ECONNRESET: nobody is there any more.</summary>
    public static SyscallResult Send(FileDescriptor socket, byte message, params ReadOnlySpan<FileDescriptor> descriptors)
    {
        ControlMessage control = default;
        control.Length = (ulong)(16 + 4 * descriptors.Length);
        control.Level = SOL_SOCKET;
        control.Type = SCM_RIGHTS;
        for (int i = 0; i < descriptors.Length; i++) control.Descriptors[i] = descriptors[i].Number;
        Memory.IoVector vector = new() { Base = (ulong)&message, Length = 1 };
        MessageHeader header = new() { Vector = (ulong)&vector, VectorCount = 1 };
        if (descriptors.Length > 0)
        {
            header.Control = (ulong)&control;
            header.ControlLength = (control.Length + 7) & ~7UL;
        }
        return SystemCall.InvokeUninterrupted(SystemCall.SYS_sendmsg, socket.Number, (long)&header, MSG_NOSIGNAL);
    }

    /// <summary>Hangs up, and waits until nobody has the other end any more. False if somebody still has after so long.</summary>
    public static bool HangUp(FileDescriptor socket, TimeSpan patience)
    {
        SystemCall.Invoke(SystemCall.SYS_shutdown, socket.Number, SHUT_WR);
        while (Poll.Readable(socket, patience))
            if (Receive(socket) is null) return true;
        return false;
    }

    /// <summary>Receives one byte; null when the other end is closed or has died.</summary>
    public static byte? Receive(FileDescriptor socket)
    {
        byte message;
        SyscallResult result = SystemCall.InvokeUninterrupted(SystemCall.SYS_read, socket.Number, (long)&message, 1);
        return result.Raw == 1 ? message : null;
    }
}
