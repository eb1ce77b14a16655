using System.Runtime.InteropServices;

namespace Pvmmap.Linux;

/// <summary>ptrace(2) and wait4(2): requests, options, events and the register file (sys/ptrace.h, asm/ptrace.h).</summary>
internal static class Ptrace
{
    public const int PTRACE_CONT = 7;
    public const int PTRACE_GETREGS = 12;
    public const int PTRACE_SETREGS = 13;
    public const int PTRACE_DETACH = 17;
    public const int PTRACE_SYSCALL = 24;
    public const int PTRACE_SETOPTIONS = 0x4200;
    public const int PTRACE_GETEVENTMSG = 0x4201;
    public const int PTRACE_GETREGSET = 0x4204;
    public const int PTRACE_SEIZE = 0x4206;
    public const int PTRACE_INTERRUPT = 0x4207;
    public const int PTRACE_GETSIGMASK = 0x420a;
    public const int PTRACE_SETSIGMASK = 0x420b;

    public const int PTRACE_GET_RSEQ_CONFIGURATION = 0x420f;

    public const int PTRACE_O_TRACESYSGOOD = 1;
    public const int PTRACE_O_TRACECLONE = 1 << 3;
    public const int PTRACE_O_EXITKILL = 1 << 20;
    public const int PTRACE_O_SUSPEND_SECCOMP = 1 << 21;

    public const int PTRACE_EVENT_CLONE = 3;
    public const int PTRACE_EVENT_STOP = 128;

    public const int NT_PRFPREG = 2;
    public const int NT_X86_XSTATE = 0x202;

    public const int WNOHANG = 1;
    public const int __WALL = 0x40000000;

    /// <summary>64-bit user code segment: anything else is a 32-bit program.</summary>
    public const ulong UserCodeSegment64 = 0x33;

    /// <summary>struct user_regs_struct of x86-64 (sys/user.h).</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct Registers
    {
        public ulong R15, R14, R13, R12, Rbp, Rbx, R11, R10, R9, R8, Rax, Rcx, Rdx, Rsi, Rdi, OrigRax, Rip, Cs, Eflags, Rsp, Ss, FsBase, GsBase, Ds, Es, Fs, Gs;
    }
}

/// <summary>The status word of wait4(2).</summary>
internal readonly record struct WaitStatus(int Word)
{
    public bool Stopped => (Word & 0xff) == 0x7f;

    public bool Exited => (Word & 0x7f) == 0;

    /// <summary>What it gave exit(2); 0 also if it was killed.</summary>
    public int ExitCode => Exited ? (Word >> 8) & 0xff : 0;

    /// <summary>The signal of a stop; bit 0x80 is set for a system call stop (PTRACE_O_TRACESYSGOOD).</summary>
    public int StopSignal => (Word >> 8) & 0xff;

    /// <summary>PTRACE_EVENT_*, or 0.</summary>
    public int Event => Word >> 16;

    public bool IsSyscallStop => Stopped && Event == 0 && StopSignal == (Signals.SIGTRAP | 0x80);

    public bool IsEventStop => Stopped && Event == Ptrace.PTRACE_EVENT_STOP;
}
