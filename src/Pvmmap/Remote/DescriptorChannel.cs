using System.Runtime.InteropServices;
using Pvmmap.Linux;

namespace Pvmmap.Remote;

/// <summary>
/// Gives a process descriptors of this one's: a socket of its own, connected to itself, receives what this process sends through a duplicate. If this
/// process dies, the socket is closed there; and so is a descriptor that was passed, but for the instant of its arrival.
/// </summary>
internal sealed unsafe class DescriptorChannel : IDisposable
{
    // Where the arguments of recvmsg() lie in the scratch memory.
    private const ulong HeaderAt = 0, VectorAt = 0x40, ByteAt = 0x60, ControlAt = 0x80;
    private const ulong ControlLength = 24, ControlHeader = 16;

    private readonly IProcessCalls process;
    private FileDescriptor? here;
    private int there, undo;

    public DescriptorChannel(IProcessCalls process) => this.process = process;

    /// <summary>
    /// Opens a descriptor in the process. It is to be closed there with <see cref="Close"/>.
    /// </summary>
    /// <param name="descriptor">This process's.</param>
    /// <param name="undo">What closes it if this process dies.</param>
    /// <returns>Its number there, or what the process may not do: EMFILE, EPERM.</returns>
    public SyscallResult Pass(FileDescriptor descriptor, out int undo)
    {
        undo = 0;
        if (process is OwnProcess) return process.GetFd(descriptor.Number);
        Errno errno = Open();
        if (errno == Errno.None) errno = UnixSocket.Send(here!, 0, descriptor).Errno;
        if (errno != Errno.None) return new SyscallResult(-(long)errno);
        ulong scratch = process.Scratch;
        UnixSocket.MessageHeader header = new() { Vector = scratch + VectorAt, VectorCount = 1, Control = scratch + ControlAt, ControlLength = ControlLength };
        Memory.IoVector vector = new() { Base = scratch + ByteAt, Length = 1 };
        process.Write(scratch + HeaderAt, new ReadOnlySpan<byte>(&header, sizeof(UnixSocket.MessageHeader)));
        process.Write(scratch + VectorAt, new ReadOnlySpan<byte>(&vector, sizeof(Memory.IoVector)));
        SyscallResult received = process.Invoke(SystemCall.SYS_recvmsg, there, (long)(scratch + HeaderAt), UnixSocket.MSG_CMSG_CLOEXEC);
        if (received.Failed) return received;
        process.Read(scratch + HeaderAt, new Span<byte>(&header, sizeof(UnixSocket.MessageHeader)));
        // Its table is full: the kernel drops the descriptor and says so.
        if (header.ControlLength < ControlHeader + sizeof(int)) return new SyscallResult(-(long)Errno.EMFILE);
        int number = 0;
        process.Read(scratch + ControlAt + ControlHeader, MemoryMarshal.AsBytes(new Span<int>(ref number)));
        undo = process.AddUndo(SystemCall.SYS_close, number);
        return new SyscallResult(number);
    }

    /// <summary>Closes a descriptor there.</summary>
    public void Close(int number, int undo)
    {
        process.InvokeDisarming(undo, SystemCall.SYS_close, number);
    }

    private Errno Open()
    {
        if (here is not null) return Errno.None;
        SyscallResult opened = process.InvokeUndoable(
            SystemCall.SYS_close, 0, out undo, SystemCall.SYS_socket, UnixSocket.AF_UNIX, UnixSocket.SOCK_DGRAM | UnixSocket.SOCK_CLOEXEC);
        if (opened.Failed) return opened.Errno;
        there = (int)opened.Value;
        SyscallResult taken = process.GetFd(there);
        if (taken.Failed)
        {
            Close(there, undo);
            return taken.Errno;
        }
        here = new FileDescriptor(taken.Value);
        return UnixSocket.ConnectToItself(here);
    }

    public void Dispose()
    {
        if (here is null) return;
        Close(there, undo);
        here.Dispose();
        here = null;
    }
}
