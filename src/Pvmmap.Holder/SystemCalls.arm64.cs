namespace Pvmmap.Holder.Freestanding;

/// <summary>System call numbers of arm64 (include/uapi/asm-generic/unistd.h).</summary>
internal static class SystemCalls
{
    public const long dup3 = 24;
    public const long fcntl = 25;
    public const long ioctl = 29;
    public const long chdir = 49;
    public const long openat = 56;
    public const long close = 57;
    public const long getdents64 = 61;
    public const long lseek = 62;
    public const long read = 63;
    public const long pread64 = 67;
    public const long pwrite64 = 68;
    public const long ppoll = 73;
    public const long exit = 93;
    public const long exit_group = 94;
    public const long set_tid_address = 96;
    public const long futex = 98;
    public const long setitimer = 103;
    public const long timer_create = 107;
    public const long timer_settime = 110;
    public const long clock_gettime = 113;
    public const long sched_setaffinity = 122;
    public const long sched_getaffinity = 123;
    public const long sched_yield = 124;
    public const long kill = 129;
    public const long rt_sigaction = 134;
    public const long rt_sigprocmask = 135;
    public const long setsid = 157;
    public const long prctl = 167;
    public const long getcpu = 168;
    public const long getpid = 172;
    public const long getppid = 173;
    public const long sendto = 206;
    public const long sendmsg = 211;
    public const long recvmsg = 212;
    public const long munmap = 215;
    public const long mremap = 216;
    public const long clone = 220;
    public const long mmap = 222;
    public const long mprotect = 226;
    public const long munlock = 229;
    public const long madvise = 233;
    public const long set_mempolicy = 237;
    public const long wait4 = 260;
    public const long prlimit64 = 261;
    public const long process_vm_writev = 271;
    public const long kcmp = 272;
    public const long execveat = 281;
    public const long userfaultfd = 282;
    public const long pkey_mprotect = 288;
    public const long pidfd_open = 434;
    public const long close_range = 436;
}
