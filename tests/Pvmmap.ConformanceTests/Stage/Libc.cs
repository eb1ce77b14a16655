using System.Runtime.InteropServices;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>What the tests ask of the C library for their own process.</summary>
internal static partial class Libc
{
    public const int SIGKILL = 9, SIGSTOP = 19, SIGCONT = 18, SIGUSR1 = 10;

    /// <summary>Any system call; the result is negative with the errno, as the kernel returns it.</summary>
    public static long Syscall(long number, params ReadOnlySpan<long> arguments)
    {
        Span<long> six = stackalloc long[6];
        arguments.CopyTo(six);
        long result = syscall(number, six[0], six[1], six[2], six[3], six[4], six[5]);
        return result == -1 ? -Marshal.GetLastPInvokeError() : result;
    }

    /// <summary>Sends a signal to a process that this test run started.</summary>
    public static void Kill(int pid, int signal)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(pid, 2);
        _ = kill(pid, signal);
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial long syscall(long number, long a, long b, long c, long d, long e, long f);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int kill(int pid, int signal);
}

/// <summary>System call numbers of x86-64 (arch/x86/entry/syscalls/syscall_64.tbl), the architecture these tests run on.</summary>
internal static class Sys
{
    public const long
        read = 0, write = 1, close = 3, mmap = 9, mprotect = 10, munmap = 11, pread64 = 17, ioctl = 16, mremap = 25, brk = 12, madvise = 28,
        shmget = 29, shmat = 30, shmctl = 31, sendto = 44, recvfrom = 45, shutdown = 48, fcntl = 72, flock = 73, getppid = 110, mlock = 149, prctl = 157, munlock = 150, mlockall = 151, gettid = 186, futex = 202, sched_setaffinity = 203,
        io_setup = 206, exit_group = 231, tgkill = 234, chroot = 161, mbind = 237, set_mempolicy = 238, kill = 62, chdir = 80, pipe2 = 293, prlimit64 = 302, process_vm_readv = 310,
        process_vm_writev = 311, seccomp = 317, memfd_create = 319, userfaultfd = 323, openat = 257, unlinkat = 263, pkey_mprotect = 329, pkey_alloc = 330, mseal = 462, memfd_secret = 447, dup = 32, dup3 = 292, ptrace = 101, pidfd_open = 434, pidfd_send_signal = 424, pidfd_getfd = 438;
}

[Flags]
public enum Prot { None = 0, Read = 1, Write = 2, Exec = 4, ReadWrite = 3 }

[Flags]
public enum MapFlags { Shared = 1, Private = 2, Fixed = 0x10, Anonymous = 0x20, GrowsDown = 0x100, NoReserve = 0x4000, HugeTlb = 0x40000, FixedNoReplace = 0x100000 }

/// <summary>Limits of setrlimit(2).</summary>
public enum Rlimit { Data = 2, Core = 4, Tasks = 6, Files = 7, AddressSpace = 9, PendingSignals = 11 }

/// <summary>Advice of madvise(2).</summary>
public enum Madv
{
    Random = 1, Sequential = 2, DontNeed = 4, DontFork = 10, Mergeable = 12, HugePage = 14, NoHugePage = 15, DontDump = 16, WipeOnFork = 18, KeepOnFork = 19, PageOut = 21,
    PopulateRead = 22, Collapse = 25, GuardInstall = 102,
}
