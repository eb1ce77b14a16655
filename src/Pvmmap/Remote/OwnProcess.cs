using System.Runtime.InteropServices;
using Pvmmap.Linux;
using Pvmmap.Procfs;

namespace Pvmmap.Remote;

/// <summary>This process as source or target: no ptrace, the calls are simply made.</summary>
internal sealed unsafe class OwnProcess : IProcessCalls
{
    private readonly void* scratch = NativeMemory.AllocZeroed(Trampoline.ScratchBytes);

    private MapsFile? maps;

    public int Pid => Environment.ProcessId;

    public MapsFile Maps => maps ??= MapsFile.Open(Pid);

    public ulong Scratch => (ulong)scratch;

    public SyscallResult Invoke(long number, long a1 = 0, long a2 = 0, long a3 = 0, long a4 = 0, long a5 = 0, long a6 = 0) =>
        SystemCall.InvokeUninterrupted(number, a1, a2, a3, a4, a5, a6);

    public void Write(ulong address, ReadOnlySpan<byte> bytes) => bytes.CopyTo(new Span<byte>((void*)address, bytes.Length));

    public void Read(ulong address, Span<byte> bytes) => new ReadOnlySpan<byte>((void*)address, bytes.Length).CopyTo(bytes);

    public SyscallResult GetFd(int number) => SystemCall.Invoke(SystemCall.SYS_fcntl, number, FileDescriptor.F_DUPFD_CLOEXEC, 0);

    // If this process dies there is nothing left to undo in it.
    public int AddUndo(long number, long a1 = 0, long a2 = 0, long a3 = 0, long a4 = 0, long a5 = 0) => 0;

    public void ClearUndo(int entry)
    {
    }

    public void Confirm()
    {
    }

    public SyscallResult InvokeUndoable(long undoNumber, long undoA2, out int entry, long number, long a1 = 0, long a2 = 0, long a3 = 0, long a4 = 0, long a5 = 0, long a6 = 0)
    {
        entry = 0;
        return Invoke(number, a1, a2, a3, a4, a5, a6);
    }

    public SyscallResult InvokeDisarming(int entry, long number, long a1 = 0, long a2 = 0, long a3 = 0, long a4 = 0, long a5 = 0, long a6 = 0) =>
        Invoke(number, a1, a2, a3, a4, a5, a6);

    public void Dispose()
    {
        maps?.Dispose();
        NativeMemory.Free(scratch);
    }
}
