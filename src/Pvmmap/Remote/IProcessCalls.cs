using Pvmmap.Linux;
using Pvmmap.Procfs;

namespace Pvmmap.Remote;

/// <summary>System calls made in the name of some process: this one, or one that stands still under ptrace.</summary>
internal interface IProcessCalls : IDisposable
{
    /// <summary>The process, as this process's pid namespace has it.</summary>
    int Pid { get; }

    /// <summary>Its mappings; where they are listed, as they were before.</summary>
    MapsFile Maps { get; }

    /// <summary>Runs one system call there. ESRCH also when the process is gone.</summary>
    SyscallResult Invoke(long number, long a1 = 0, long a2 = 0, long a3 = 0, long a4 = 0, long a5 = 0, long a6 = 0);

    /// <summary>Address there of <see cref="Trampoline.ScratchBytes"/> bytes for arguments; gone when the process goes on.</summary>
    ulong Scratch { get; }

    void Write(ulong address, ReadOnlySpan<byte> bytes);

    void Read(ulong address, Span<byte> bytes);

    /// <summary>Takes a descriptor of that process into this one.</summary>
    SyscallResult GetFd(int number);

    /// <summary>What the process does on its own if this process dies before <see cref="ClearUndo"/>. At most <see cref="Trampoline.UndoEntries"/>.</summary>
    /// <returns>The entry's number.</returns>
    int AddUndo(long number, long a1 = 0, long a2 = 0, long a3 = 0, long a4 = 0, long a5 = 0);

    void ClearUndo(int entry);

    /// <summary>EAGAIN if the process has been let go meanwhile, because its tracer has been killed: what was cleared or written last may have come too late.</summary>
    void Confirm();

    /// <summary>
    /// A system call whose result, if this process dies before <see cref="ClearUndo"/>, is the first argument of another one that undoes it;
    /// there is no moment in between.
    /// </summary>
    SyscallResult InvokeUndoable(long undoNumber, long undoA2, out int entry, long number, long a1 = 0, long a2 = 0, long a3 = 0, long a4 = 0, long a5 = 0, long a6 = 0);

    /// <summary>A system call whose success takes an undo entry back; there is no moment in between.</summary>
    SyscallResult InvokeDisarming(int entry, long number, long a1 = 0, long a2 = 0, long a3 = 0, long a4 = 0, long a5 = 0, long a6 = 0);
}
