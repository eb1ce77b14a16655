using System.Runtime.InteropServices;

namespace Pvmmap.Linux;

/// <summary>
/// A local datagram socket to which another process of the same network namespace sends a descriptor, where pidfd_getfd(2) cannot take it. Whoever
/// lives in that namespace may send something; the kernel tells who it was (SO_PASSCRED).
/// </summary>
internal sealed unsafe class Letterbox : IDisposable
{
    private const int ControlBytes = 128, HeaderBytes = 16;

    private readonly FileDescriptor socket;

    private Letterbox(FileDescriptor socket) => this.socket = socket;

    /// <summary>struct sockaddr_un, without what is not part of the name.</summary>
    public byte[] Address { get; private set; } = [];

    /// <summary>Null with an errno where there can be none.</summary>
    public static Letterbox? Open(out Errno errno)
    {
        SyscallResult result = SystemCall.Invoke(SystemCall.SYS_socket, UnixSocket.AF_UNIX, UnixSocket.SOCK_DGRAM | UnixSocket.SOCK_CLOEXEC);
        errno = result.Errno;
        if (result.Failed) return null;
        Letterbox letterbox = new(new FileDescriptor(result.Value));
        byte* address = stackalloc byte[UnixSocket.LongestAddress];
        int yes = 1, length = 0;
        result = SystemCall.Invoke(
            SystemCall.SYS_setsockopt, letterbox.socket.Number, UnixSocket.SOL_SOCKET, UnixSocket.SO_PASSCRED, (long)&yes, sizeof(int));
        if (!result.Failed) result = UnixSocket.BindToAnyName(letterbox.socket, address, out length);
        letterbox.Address = new ReadOnlySpan<byte>(address, length).ToArray();
        errno = result.Errno;
        if (!result.Failed) return letterbox;
        letterbox.Dispose();
        return null;
    }

    /// <summary>The descriptor that a process has just sent: its number here. EAGAIN: none.</summary>
    public SyscallResult Receive(int from)
    {
        byte message;
        byte* control = stackalloc byte[ControlBytes];
        while (true)
        {
            Memory.IoVector vector = new() { Base = (ulong)&message, Length = 1 };
            UnixSocket.MessageHeader header = new() { Vector = (ulong)&vector, VectorCount = 1, Control = (ulong)control, ControlLength = ControlBytes };
            SyscallResult received = SystemCall.InvokeUninterrupted(
                SystemCall.SYS_recvmsg, socket.Number, (long)&header, UnixSocket.MSG_DONTWAIT | UnixSocket.MSG_CMSG_CLOEXEC);
            if (received.Failed) return received;
            List<FileDescriptor> descriptors = [];
            int sender = Read(new ReadOnlySpan<byte>(control, (int)Math.Min(header.ControlLength, ControlBytes)), descriptors);
            if (sender == from && descriptors.Count == 1)
            {
                int number = descriptors[0].Number;
                descriptors[0].SetHandleAsInvalid();
                return new SyscallResult(number);
            }
            foreach (FileDescriptor stray in descriptors) stray.Dispose();
        }
    }

    // struct cmsghdr: length, level, type; then the content, padded to 8 bytes.
    private static int Read(ReadOnlySpan<byte> control, List<FileDescriptor> descriptors)
    {
        int sender = 0;
        while (control.Length >= HeaderBytes)
        {
            int length = (int)MemoryMarshal.Read<ulong>(control), type = MemoryMarshal.Read<int>(control[12..]);
            if (length < HeaderBytes || length > control.Length) break;
            ReadOnlySpan<int> content = MemoryMarshal.Cast<byte, int>(control[HeaderBytes..length]);
            if (type == UnixSocket.SCM_CREDENTIALS) sender = content[0];
            if (type == UnixSocket.SCM_RIGHTS)
            {
                foreach (int number in content) descriptors.Add(new FileDescriptor(number));
            }
            control = control[Math.Min((length + 7) & ~7, control.Length)..];
        }
        return sender;
    }

    public void Dispose() => socket.Dispose();
}
