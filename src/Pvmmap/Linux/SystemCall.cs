using System.Runtime.InteropServices;

namespace Pvmmap.Linux;

/// <summary>What a system call gave back: a value, or an errno. The kernel's own convention: -4095..-1 are negated error numbers.</summary>
internal readonly record struct SyscallResult(long Raw)
{
    public bool Failed => Raw is < 0 and >= -4095;

    public Errno Errno => Failed ? (Errno)(-Raw) : Errno.None;

    public long Value => Raw;

    /// <summary>The value, or an exception that names the operation.</summary>
    public long OrThrow(string operation, int pid = 0, PageRange? range = null, string? hint = null) =>
        Failed ? throw new PvmmapException(Errno, operation, pid, range, hint) : Raw;
}

/// <summary>Raw system calls of the calling thread, by number, and the numbers that are also run in other processes.</summary>
internal static partial class SystemCall
{
    public static int SYS_read => Processor.IsArm64 ? Arm64SystemCalls.SYS_read : X64SystemCalls.SYS_read;
    public static int SYS_write => Processor.IsArm64 ? Arm64SystemCalls.SYS_write : X64SystemCalls.SYS_write;
    public static int SYS_close => Processor.IsArm64 ? Arm64SystemCalls.SYS_close : X64SystemCalls.SYS_close;
    public static int SYS_mmap => Processor.IsArm64 ? Arm64SystemCalls.SYS_mmap : X64SystemCalls.SYS_mmap;
    public static int SYS_mprotect => Processor.IsArm64 ? Arm64SystemCalls.SYS_mprotect : X64SystemCalls.SYS_mprotect;
    public static int SYS_munmap => Processor.IsArm64 ? Arm64SystemCalls.SYS_munmap : X64SystemCalls.SYS_munmap;
    public static int SYS_rt_sigprocmask => Processor.IsArm64 ? Arm64SystemCalls.SYS_rt_sigprocmask : X64SystemCalls.SYS_rt_sigprocmask;
    public static int SYS_rt_sigreturn => Processor.IsArm64 ? Arm64SystemCalls.SYS_rt_sigreturn : X64SystemCalls.SYS_rt_sigreturn;
    public static int SYS_ioctl => Processor.IsArm64 ? Arm64SystemCalls.SYS_ioctl : X64SystemCalls.SYS_ioctl;
    public static int SYS_pread64 => Processor.IsArm64 ? Arm64SystemCalls.SYS_pread64 : X64SystemCalls.SYS_pread64;
    public static int SYS_pwrite64 => Processor.IsArm64 ? Arm64SystemCalls.SYS_pwrite64 : X64SystemCalls.SYS_pwrite64;
    public static int SYS_lseek => Processor.IsArm64 ? Arm64SystemCalls.SYS_lseek : X64SystemCalls.SYS_lseek;
    public static int SYS_readv => Processor.IsArm64 ? Arm64SystemCalls.SYS_readv : X64SystemCalls.SYS_readv;
    public static int SYS_writev => Processor.IsArm64 ? Arm64SystemCalls.SYS_writev : X64SystemCalls.SYS_writev;
    public static int SYS_mremap => Processor.IsArm64 ? Arm64SystemCalls.SYS_mremap : X64SystemCalls.SYS_mremap;
    public static int SYS_madvise => Processor.IsArm64 ? Arm64SystemCalls.SYS_madvise : X64SystemCalls.SYS_madvise;
    public static int SYS_getpid => Processor.IsArm64 ? Arm64SystemCalls.SYS_getpid : X64SystemCalls.SYS_getpid;
    public static int SYS_accept => Processor.IsArm64 ? Arm64SystemCalls.SYS_accept : X64SystemCalls.SYS_accept;
    public static int SYS_sendto => Processor.IsArm64 ? Arm64SystemCalls.SYS_sendto : X64SystemCalls.SYS_sendto;
    public static int SYS_recvfrom => Processor.IsArm64 ? Arm64SystemCalls.SYS_recvfrom : X64SystemCalls.SYS_recvfrom;
    public static int SYS_socket => Processor.IsArm64 ? Arm64SystemCalls.SYS_socket : X64SystemCalls.SYS_socket;
    public static int SYS_connect => Processor.IsArm64 ? Arm64SystemCalls.SYS_connect : X64SystemCalls.SYS_connect;
    public static int SYS_sendmsg => Processor.IsArm64 ? Arm64SystemCalls.SYS_sendmsg : X64SystemCalls.SYS_sendmsg;
    public static int SYS_recvmsg => Processor.IsArm64 ? Arm64SystemCalls.SYS_recvmsg : X64SystemCalls.SYS_recvmsg;
    public static int SYS_shutdown => Processor.IsArm64 ? Arm64SystemCalls.SYS_shutdown : X64SystemCalls.SYS_shutdown;
    public static int SYS_bind => Processor.IsArm64 ? Arm64SystemCalls.SYS_bind : X64SystemCalls.SYS_bind;
    public static int SYS_getsockname => Processor.IsArm64 ? Arm64SystemCalls.SYS_getsockname : X64SystemCalls.SYS_getsockname;
    public static int SYS_socketpair => Processor.IsArm64 ? Arm64SystemCalls.SYS_socketpair : X64SystemCalls.SYS_socketpair;
    public static int SYS_setsockopt => Processor.IsArm64 ? Arm64SystemCalls.SYS_setsockopt : X64SystemCalls.SYS_setsockopt;
    public static int SYS_clone => Processor.IsArm64 ? Arm64SystemCalls.SYS_clone : X64SystemCalls.SYS_clone;
    public static int SYS_wait4 => Processor.IsArm64 ? Arm64SystemCalls.SYS_wait4 : X64SystemCalls.SYS_wait4;
    public static int SYS_kill => Processor.IsArm64 ? Arm64SystemCalls.SYS_kill : X64SystemCalls.SYS_kill;
    public static int SYS_semop => Processor.IsArm64 ? Arm64SystemCalls.SYS_semop : X64SystemCalls.SYS_semop;
    public static int SYS_fcntl => Processor.IsArm64 ? Arm64SystemCalls.SYS_fcntl : X64SystemCalls.SYS_fcntl;
    public static int SYS_flock => Processor.IsArm64 ? Arm64SystemCalls.SYS_flock : X64SystemCalls.SYS_flock;
    public static int SYS_ftruncate => Processor.IsArm64 ? Arm64SystemCalls.SYS_ftruncate : X64SystemCalls.SYS_ftruncate;
    public static int SYS_ptrace => Processor.IsArm64 ? Arm64SystemCalls.SYS_ptrace : X64SystemCalls.SYS_ptrace;
    public static int SYS_rt_sigtimedwait => Processor.IsArm64 ? Arm64SystemCalls.SYS_rt_sigtimedwait : X64SystemCalls.SYS_rt_sigtimedwait;
    public static int SYS_prctl => Processor.IsArm64 ? Arm64SystemCalls.SYS_prctl : X64SystemCalls.SYS_prctl;
    public static int SYS_gettid => Processor.IsArm64 ? Arm64SystemCalls.SYS_gettid : X64SystemCalls.SYS_gettid;
    public static int SYS_futex => Processor.IsArm64 ? Arm64SystemCalls.SYS_futex : X64SystemCalls.SYS_futex;
    public static int SYS_io_getevents => Processor.IsArm64 ? Arm64SystemCalls.SYS_io_getevents : X64SystemCalls.SYS_io_getevents;
    public static int SYS_restart_syscall => Processor.IsArm64 ? Arm64SystemCalls.SYS_restart_syscall : X64SystemCalls.SYS_restart_syscall;
    public static int SYS_semtimedop => Processor.IsArm64 ? Arm64SystemCalls.SYS_semtimedop : X64SystemCalls.SYS_semtimedop;
    public static int SYS_get_mempolicy => Processor.IsArm64 ? Arm64SystemCalls.SYS_get_mempolicy : X64SystemCalls.SYS_get_mempolicy;
    public static int SYS_mbind => Processor.IsArm64 ? Arm64SystemCalls.SYS_mbind : X64SystemCalls.SYS_mbind;
    public static int SYS_setsid => Processor.IsArm64 ? Arm64SystemCalls.SYS_setsid : X64SystemCalls.SYS_setsid;

    public static int SYS_set_mempolicy => Processor.IsArm64 ? Arm64SystemCalls.SYS_set_mempolicy : X64SystemCalls.SYS_set_mempolicy;
    public static int SYS_openat => Processor.IsArm64 ? Arm64SystemCalls.SYS_openat : X64SystemCalls.SYS_openat;
    public static int SYS_linkat => Processor.IsArm64 ? Arm64SystemCalls.SYS_linkat : X64SystemCalls.SYS_linkat;
    public static int SYS_readlinkat => Processor.IsArm64 ? Arm64SystemCalls.SYS_readlinkat : X64SystemCalls.SYS_readlinkat;
    public static int SYS_epoll_pwait => Processor.IsArm64 ? Arm64SystemCalls.SYS_epoll_pwait : X64SystemCalls.SYS_epoll_pwait;
    public static int SYS_accept4 => Processor.IsArm64 ? Arm64SystemCalls.SYS_accept4 : X64SystemCalls.SYS_accept4;
    public static int SYS_recvmmsg => Processor.IsArm64 ? Arm64SystemCalls.SYS_recvmmsg : X64SystemCalls.SYS_recvmmsg;
    public static int SYS_sendmmsg => Processor.IsArm64 ? Arm64SystemCalls.SYS_sendmmsg : X64SystemCalls.SYS_sendmmsg;
    public static int SYS_process_vm_readv => Processor.IsArm64 ? Arm64SystemCalls.SYS_process_vm_readv : X64SystemCalls.SYS_process_vm_readv;
    public static int SYS_process_vm_writev => Processor.IsArm64 ? Arm64SystemCalls.SYS_process_vm_writev : X64SystemCalls.SYS_process_vm_writev;
    public static int SYS_kcmp => Processor.IsArm64 ? Arm64SystemCalls.SYS_kcmp : X64SystemCalls.SYS_kcmp;
    public static int SYS_renameat2 => Processor.IsArm64 ? Arm64SystemCalls.SYS_renameat2 : X64SystemCalls.SYS_renameat2;
    public static int SYS_memfd_create => Processor.IsArm64 ? Arm64SystemCalls.SYS_memfd_create : X64SystemCalls.SYS_memfd_create;
    public static int SYS_userfaultfd => Processor.IsArm64 ? Arm64SystemCalls.SYS_userfaultfd : X64SystemCalls.SYS_userfaultfd;
    public static int SYS_statx => Processor.IsArm64 ? Arm64SystemCalls.SYS_statx : X64SystemCalls.SYS_statx;
    public static int SYS_io_pgetevents => Processor.IsArm64 ? Arm64SystemCalls.SYS_io_pgetevents : X64SystemCalls.SYS_io_pgetevents;
    public static int SYS_pidfd_send_signal => Processor.IsArm64 ? Arm64SystemCalls.SYS_pidfd_send_signal : X64SystemCalls.SYS_pidfd_send_signal;
    public static int SYS_io_uring_enter => Processor.IsArm64 ? Arm64SystemCalls.SYS_io_uring_enter : X64SystemCalls.SYS_io_uring_enter;
    public static int SYS_pidfd_open => Processor.IsArm64 ? Arm64SystemCalls.SYS_pidfd_open : X64SystemCalls.SYS_pidfd_open;
    public static int SYS_close_range => Processor.IsArm64 ? Arm64SystemCalls.SYS_close_range : X64SystemCalls.SYS_close_range;
    public static int SYS_pidfd_getfd => Processor.IsArm64 ? Arm64SystemCalls.SYS_pidfd_getfd : X64SystemCalls.SYS_pidfd_getfd;
    public static int SYS_process_madvise => Processor.IsArm64 ? Arm64SystemCalls.SYS_process_madvise : X64SystemCalls.SYS_process_madvise;
    public static int SYS_epoll_pwait2 => Processor.IsArm64 ? Arm64SystemCalls.SYS_epoll_pwait2 : X64SystemCalls.SYS_epoll_pwait2;

    // syscall(2) is variadic; integer arguments are passed alike by the C libraries of x86-64 and arm64.
    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial long LibcSyscall(long number, long a1, long a2, long a3, long a4, long a5, long a6);

    public static SyscallResult Invoke(long number, long a1 = 0, long a2 = 0, long a3 = 0, long a4 = 0, long a5 = 0, long a6 = 0)
    {
        long result = LibcSyscall(number, a1, a2, a3, a4, a5, a6);
        return new SyscallResult(result == -1 ? -Marshal.GetLastPInvokeError() : result);
    }

    /// <summary>As <see cref="Invoke"/>, again for as long as a signal interrupts it.</summary>
    public static SyscallResult InvokeUninterrupted(long number, long a1 = 0, long a2 = 0, long a3 = 0, long a4 = 0, long a5 = 0, long a6 = 0)
    {
        SyscallResult result;
        do result = Invoke(number, a1, a2, a3, a4, a5, a6);
        while (result.Errno == Errno.EINTR);
        return result;
    }
}
