using Pvmmap.Linux;

namespace Pvmmap.Remote;

/// <summary>A system call in some process.</summary>
internal delegate SyscallResult SystemCallThere(long number, long a1 = 0, long a2 = 0, long a3 = 0, long a4 = 0, long a5 = 0, long a6 = 0);

/// <summary>
/// A descriptor of a process that stands still, which is made to send it over a socket: where there is no pidfd_getfd(2), before Linux 5.6 or
/// behind a seccomp filter of this process. Both must live in one network namespace.
/// </summary>
internal static unsafe class SentDescriptor
{
    /// <summary>Bytes of memory there that it takes.</summary>
    public const int ScratchBytes = 0x100;

    // Where the arguments of sendmsg() lie in it.
    private const ulong HeaderAt = 0, VectorAt = 0x40, ByteAt = 0x58, ControlAt = 0x60, AddressAt = 0x80;
    private const int HeaderBytes = 16;

    /// <summary>True if pidfd_getfd(2) is not to be had, as opposed to the descriptor.</summary>
    public static bool IsNeeded(SyscallResult taken) => taken.Errno is Errno.ENOSYS or Errno.EPERM;

    /// <summary>Takes a duplicate.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="socket">A local datagram socket of its own, which has no other use.</param>
    /// <param name="scratch">Memory there.</param>
    /// <param name="number">The descriptor there.</param>
    /// <param name="call">Runs system calls there.</param>
    public static SyscallResult Take(int pid, long socket, ulong scratch, int number, SystemCallThere call)
    {
        using Letterbox? letterbox = Letterbox.Open(out Errno errno);
        if (letterbox is null) return new SyscallResult(-(long)errno);
        Span<byte> bytes = stackalloc byte[ScratchBytes];
        bytes.Clear();
        fixed (byte* at = bytes)
        {
            *(UnixSocket.MessageHeader*)(at + HeaderAt) = new UnixSocket.MessageHeader
            {
                Name = scratch + AddressAt,
                NameLength = (uint)letterbox.Address.Length,
                Vector = scratch + VectorAt,
                VectorCount = 1,
                Control = scratch + ControlAt,
                ControlLength = HeaderBytes + sizeof(ulong),
            };
            *(Memory.IoVector*)(at + VectorAt) = new Memory.IoVector { Base = scratch + ByteAt, Length = 1 };
            UnixSocket.ControlMessage control = new() { Length = HeaderBytes + sizeof(int), Level = UnixSocket.SOL_SOCKET, Type = UnixSocket.SCM_RIGHTS };
            control.Descriptors[0] = number;
            new ReadOnlySpan<byte>(&control, HeaderBytes + sizeof(int)).CopyTo(bytes[(int)ControlAt..]);
        }
        letterbox.Address.CopyTo(bytes[(int)AddressAt..]);
        errno = Memory.WriteTo(pid, scratch, bytes);
        if (errno != Errno.None) return new SyscallResult(-(long)errno);
        SyscallResult sent = call(SystemCall.SYS_sendmsg, socket, (long)(scratch + HeaderAt), UnixSocket.MSG_NOSIGNAL | UnixSocket.MSG_DONTWAIT);
        return sent.Failed ? sent : letterbox.Receive(pid);
    }
}
