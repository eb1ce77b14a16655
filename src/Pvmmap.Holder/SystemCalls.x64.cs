namespace Pvmmap.Holder.Freestanding;

/// <summary>System call numbers of x86-64 (arch/x86/entry/syscalls/syscall_64.tbl); only calls that arm64 has too.</summary>
internal static class SystemCalls
{
    public const long read = 0;
    public const long close = 3;
    public const long lseek = 8;
    public const long mmap = 9;
    public const long mprotect = 10;
    public const long munmap = 11;
    public const long rt_sigaction = 13;
    public const long rt_sigprocmask = 14;
    public const long ioctl = 16;
    public const long pread64 = 17;
    public const long pwrite64 = 18;
    public const long sched_yield = 24;
    public const long mremap = 25;
    public const long madvise = 28;
    public const long setitimer = 38;
    public const long getpid = 39;
    public const long sendto = 44;
    public const long sendmsg = 46;
    public const long recvmsg = 47;
    public const long clone = 56;
    public const long exit = 60;
    public const long wait4 = 61;
    public const long kill = 62;
    public const long fcntl = 72;
    public const long chdir = 80;
    public const long getppid = 110;
    public const long setsid = 112;
    public const long munlock = 150;
    public const long prctl = 157;
    public const long futex = 202;
    public const long sched_setaffinity = 203;
    public const long sched_getaffinity = 204;
    public const long getdents64 = 217;
    public const long set_tid_address = 218;
    public const long timer_create = 222;
    public const long timer_settime = 223;
    public const long clock_gettime = 228;
    public const long exit_group = 231;
    public const long set_mempolicy = 238;
    public const long openat = 257;
    public const long ppoll = 271;
    public const long dup3 = 292;
    public const long prlimit64 = 302;
    public const long getcpu = 309;
    public const long process_vm_writev = 311;
    public const long kcmp = 312;
    public const long execveat = 322;
    public const long userfaultfd = 323;
    public const long pkey_mprotect = 329;
    public const long pidfd_open = 434;
    public const long close_range = 436;
}
