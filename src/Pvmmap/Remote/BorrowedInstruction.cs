using Pvmmap.Linux;
using Pvmmap.Procfs;

namespace Pvmmap.Remote;

/// <summary>A <c>syscall</c> instruction that a process has anyway. No code of it is patched.</summary>
internal static class BorrowedInstruction
{
    /// <summary>Address of an instruction that the stopped thread may be made to run.</summary>
    public static ulong Find(int pid, in Ptrace.Registers registers)
    {
        Span<byte> behind = stackalloc byte[2];
        // A thread that waits in a system call stands right behind the instruction.
        if (Memory.ReadFrom(pid, registers.Rip - 2, behind) == Errno.None && IsSyscall(behind)) return registers.Rip - 2;
        foreach (Vma vma in Maps.Read(pid))
        {
            if (vma.Name != "[vdso]") continue;
            byte[] code = new byte[vma.Range.Length];
            int length = Memory.ReadUpTo(pid, vma.Range.Start, code);
            for (int i = 0; i + 1 < length; i++)
            {
                if (IsSyscall(code.AsSpan(i))) return vma.Range.Start + (ulong)i;
            }
        }
        throw new PvmmapException(Errno.ENOSYS, "run a system call in the process", pid, hint: "it has no vDSO and is not in a system call");
    }

    private static bool IsSyscall(ReadOnlySpan<byte> code) => code[0] == 0x0f && code[1] == 0x05;
}
