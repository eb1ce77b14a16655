using Pvmmap.Linux;

namespace Pvmmap.Remote;

/// <summary>What a stop does to a system call that was waiting, and how it is undone. Of x86-64.</summary>
internal static class SystemCallRestart
{
    // linux/errno.h: never seen by programs, only in registers at a stop.
    private const long ERESTARTSYS = 512;
    private const long ERESTARTNOINTR = 513;
    private const long ERESTARTNOHAND = 514;
    private const long ERESTART_RESTARTBLOCK = 516;
    private const int SyscallInstructionBytes = 2;

    /// <summary>
    /// Some calls come back from a mere stop with a plain EINTR, as if a signal had come (signal(7), "Interruption of system calls by stop
    /// signals"). True if this is such a call: the registers then make it start again. The caller has made sure that no unblocked signal
    /// is pending, for which EINTR would be right. Never connect or close: they must not run twice.
    /// </summary>
    public static bool RepairInterrupted(ref Ptrace.Registers registers)
    {
        if ((long)registers.OrigRax < 0 || (long)registers.Rax != -(long)Errno.EINTR || !ReturnsPlainEintr((int)registers.OrigRax)) return false;
        Again(ref registers, registers.OrigRax);
        return true;
    }

    /// <summary>The registers with which the thread goes on in user mode just as if the kernel had restarted its call.</summary>
    public static Ptrace.Registers Emulate(Ptrace.Registers registers) => Emulate(registers, X64SystemCalls.SYS_restart_syscall);

    /// <summary>The same for a way back through rt_sigreturn, which forgets how far a nanosleep or poll had come: it starts anew.</summary>
    public static Ptrace.Registers EmulateFromTheStart(Ptrace.Registers registers) => Emulate(registers, registers.OrigRax);

    private static Ptrace.Registers Emulate(Ptrace.Registers registers, ulong continuation)
    {
        if ((long)registers.OrigRax < 0) return registers;
        switch (-(long)registers.Rax)
        {
            case ERESTARTSYS or ERESTARTNOINTR or ERESTARTNOHAND:
                Again(ref registers, registers.OrigRax);
                break;
            case ERESTART_RESTARTBLOCK:
                Again(ref registers, continuation);
                break;
        }
        return registers;
    }

    private static void Again(ref Ptrace.Registers registers, ulong number)
    {
        registers.Rax = number;
        registers.Rip -= SyscallInstructionBytes;
        registers.OrigRax = ulong.MaxValue;
    }

    // read, write, sendfile and splice are here for sockets with a timeout (those that have moved something say how much, never EINTR); where EINTR comes from a signal, one is pending and
    // nothing is repaired.
    private static bool ReturnsPlainEintr(int call) => call is
        X64SystemCalls.SYS_epoll_wait or X64SystemCalls.SYS_epoll_pwait or X64SystemCalls.SYS_epoll_pwait2 or
        X64SystemCalls.SYS_semop or X64SystemCalls.SYS_semtimedop or X64SystemCalls.SYS_rt_sigtimedwait or
        X64SystemCalls.SYS_io_getevents or X64SystemCalls.SYS_io_pgetevents or X64SystemCalls.SYS_io_uring_enter or
        X64SystemCalls.SYS_recvfrom or X64SystemCalls.SYS_recvmsg or X64SystemCalls.SYS_recvmmsg or
        X64SystemCalls.SYS_sendto or X64SystemCalls.SYS_sendmsg or X64SystemCalls.SYS_sendmmsg or
        X64SystemCalls.SYS_accept or X64SystemCalls.SYS_accept4 or
        X64SystemCalls.SYS_read or X64SystemCalls.SYS_readv or X64SystemCalls.SYS_preadv2 or
        X64SystemCalls.SYS_write or X64SystemCalls.SYS_writev or X64SystemCalls.SYS_pwritev2 or X64SystemCalls.SYS_sendfile or X64SystemCalls.SYS_splice;
}
