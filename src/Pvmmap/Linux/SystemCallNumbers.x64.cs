namespace Pvmmap.Linux;

/// <summary>System call numbers of x86-64 (arch/x86/entry/syscalls/syscall_64.tbl).</summary>
internal static class X64SystemCalls
{
    public const int SYS_read = 0;
    public const int SYS_write = 1;
    public const int SYS_close = 3;
    public const int SYS_mmap = 9;
    public const int SYS_mprotect = 10;
    public const int SYS_munmap = 11;
    public const int SYS_rt_sigprocmask = 14;
    public const int SYS_rt_sigreturn = 15;
    public const int SYS_ioctl = 16;
    public const int SYS_pread64 = 17;
    public const int SYS_pwrite64 = 18;
    public const int SYS_lseek = 8;
    public const int SYS_readv = 19;
    public const int SYS_writev = 20;
    public const int SYS_mremap = 25;
    public const int SYS_madvise = 28;
    public const int SYS_getpid = 39;
    public const int SYS_accept = 43;
    public const int SYS_sendto = 44;
    public const int SYS_recvfrom = 45;
    public const int SYS_socket = 41;
    public const int SYS_connect = 42;
    public const int SYS_sendmsg = 46;
    public const int SYS_recvmsg = 47;
    public const int SYS_bind = 49;
    public const int SYS_getsockname = 51;
    public const int SYS_socketpair = 53;
    public const int SYS_setsockopt = 54;
    public const int SYS_clone = 56;
    public const int SYS_wait4 = 61;
    public const int SYS_kill = 62;
    public const int SYS_semop = 65;
    public const int SYS_fcntl = 72;
    public const int SYS_flock = 73;
    public const int SYS_ftruncate = 77;
    public const int SYS_ptrace = 101;
    public const int SYS_rt_sigtimedwait = 128;
    public const int SYS_prctl = 157;
    public const int SYS_gettid = 186;
    public const int SYS_futex = 202;
    public const int SYS_io_getevents = 208;
    public const int SYS_restart_syscall = 219;
    public const int SYS_semtimedop = 220;
    public const int SYS_epoll_wait = 232;
    public const int SYS_mbind = 237;
    public const int SYS_get_mempolicy = 239;
    public const int SYS_set_mempolicy = 238;
    public const int SYS_setsid = 112;
    public const int SYS_openat = 257;
    public const int SYS_linkat = 265;
    public const int SYS_readlinkat = 267;
    public const int SYS_epoll_pwait = 281;
    public const int SYS_accept4 = 288;
    public const int SYS_recvmmsg = 299;
    public const int SYS_sendmmsg = 307;
    public const int SYS_process_vm_readv = 310;
    public const int SYS_process_vm_writev = 311;
    public const int SYS_kcmp = 312;
    public const int SYS_renameat2 = 316;
    public const int SYS_memfd_create = 319;
    public const int SYS_userfaultfd = 323;
    public const int SYS_statx = 332;
    public const int SYS_io_pgetevents = 333;
    public const int SYS_pidfd_send_signal = 424;
    public const int SYS_io_uring_enter = 426;
    public const int SYS_pidfd_open = 434;
    public const int SYS_close_range = 436;
    public const int SYS_pidfd_getfd = 438;
    public const int SYS_process_madvise = 440;
    public const int SYS_epoll_pwait2 = 441;

    /// <summary>No Linux has it: the number that kernel/ gives to the call, far above those in use. To be changed here and in kernel/ alike.</summary>
    public const int SYS_process_vm_mmap = 490;
}
