// The kernel, as the freestanding code sees it: a managed function pointer, because an unmanaged one makes the compiler insert GC polls.
global using unsafe KernelEntry = delegate*<long, long, long, long, long, long, long, long>;

using System.Runtime.InteropServices;

namespace Pvmmap.Holder.Freestanding;

/// <summary>The system calls that have more to them than a number; each returns what the kernel does: a value or a negated errno.</summary>
internal static unsafe class Kernel
{
    public const ulong PageSize = 4096;

    public const int EPERM = -1;
    public const int ENOENT = -2;
    public const int ESRCH = -3;
    public const int EINTR = -4;
    public const int ECHILD = -10;
    public const int EAGAIN = -11;
    public const int ENOMEM = -12;
    public const int EACCES = -13;
    public const int EFAULT = -14;
    public const int EEXIST = -17;
    public const int EINVAL = -22;
    public const int ENFILE = -23;
    public const int EMFILE = -24;
    public const int ENOTTY = -25;
    public const int ENOSYS = -38;

    public const int PollIn = 1;

    public const long PROT_NONE = 0;
    public const long PROT_READ = 1;
    public const long PROT_WRITE = 2;
    public const long MAP_SHARED = 1;
    public const long MAP_FIXED_NOREPLACE = 0x100000;
    public const long MREMAP_MAYMOVE = 1;
    public const long MREMAP_FIXED = 2;
    public const long MREMAP_DONTUNMAP = 4;
    public const long CLONE_VM = 0x100;
    public const long CLONE_FILES = 0x400;
    public const long CLONE_UNTRACED = 0x800000;
    public const long __WALL = 0x40000000;
    public const long SIGKILL = 9;
    public const long SIGALRM = 14;

    public const long MADV_DONTNEED = 4;
    public const long MADV_REMOVE = 9;
    public const long MADV_DONTFORK = 10;
    public const long MADV_DONTDUMP = 16;
    public const long MADV_DOFORK = 11;
    public const long MADV_NOHUGEPAGE = 15;
    public const long MADV_WIPEONFORK = 18;
    public const long MADV_GUARD_REMOVE = 103;

    public const long O_NONBLOCK = 0x800;
    public const long O_CLOEXEC = 0x80000;
    private const long F_GETFL = 3;
    private const long F_SETFL = 4;
    public const long CLOCK_MONOTONIC = 1;
    private const long FUTEX_WAIT = 0;
    private const long FUTEX_WAKE = 1;
    private const int PR_SET_NAME = 15;
    private const long PR_SET_THP_DISABLE = 41;

    public static long Read(KernelEntry call, int file, void* buffer, long length) =>
        call(SystemCalls.read, file, (long)buffer, length, 0, 0, 0);

    public static long Close(KernelEntry call, int file) => call(SystemCalls.close, file, 0, 0, 0, 0, 0);

    public static long Ioctl(KernelEntry call, int file, ulong request, void* argument) =>
        call(SystemCalls.ioctl, file, (long)request, (long)argument, 0, 0, 0);

    public static void Yield(KernelEntry call) => call(SystemCalls.sched_yield, 0, 0, 0, 0, 0, 0);

    public static long Advise(KernelEntry call, ulong start, ulong end, long advice) =>
        call(SystemCalls.madvise, (long)start, (long)(end - start), advice, 0, 0, 0);

    public static long Unmap(KernelEntry call, ulong start, ulong length) => call(SystemCalls.munmap, (long)start, (long)length, 0, 0, 0, 0);

    /// <summary>Wakes everybody who waits for a change of the word, in whatever process.</summary>
    public static void Wake(KernelEntry call, uint* word) => call(SystemCalls.futex, (long)word, FUTEX_WAKE, int.MaxValue, 0, 0, 0);

    /// <summary>Sleeps while the word has this value; it may return before.</summary>
    public static void WaitWhile(KernelEntry call, uint* word, uint value) => call(SystemCalls.futex, (long)word, FUTEX_WAIT, value, 0, 0, 0);

    /// <summary>Waits for input on any of the descriptors.</summary>
    public static long Poll(KernelEntry call, PollDescriptor* descriptors, uint count, long milliseconds) =>
        PollBriefly(call, descriptors, count, milliseconds * 1000);

    /// <summary>The same for less; negative: for ever.</summary>
    public static long PollBriefly(KernelEntry call, PollDescriptor* descriptors, uint count, long microseconds)
    {
        TimeSpecification timeout;
        timeout.Seconds = microseconds >= 1_000_000 ? 1 : 0;
        timeout.Nanoseconds = microseconds >= 1_000_000 ? 0 : microseconds * 1000;
        return call(SystemCalls.ppoll, (long)descriptors, count, microseconds < 0 ? 0 : (long)&timeout, 0, 8, 0);
    }

    /// <summary>CLOCK_MONOTONIC in nanoseconds.</summary>
    public static ulong Now(KernelEntry call) => Now(call, CLOCK_MONOTONIC);

    /// <summary>Another clock.</summary>
    public static ulong Now(KernelEntry call, long clock)
    {
        TimeSpecification now;
        now.Seconds = 0;
        now.Nanoseconds = 0;
        call(SystemCalls.clock_gettime, clock, (long)&now, 0, 0, 0, 0);
        return (ulong)now.Seconds * 1_000_000_000 + (ulong)now.Nanoseconds;
    }

    /// <summary>Names this process: <paramref name="first"/> and <paramref name="second"/> are the bytes, little-endian, zero-ended.</summary>
    public static void SetName(KernelEntry call, ulong first, ulong second)
    {
        Words2 name;
        name.First = first;
        name.Second = second;
        call(SystemCalls.prctl, PR_SET_NAME, (long)&name, 0, 0, 0, 0);
    }

    /// <summary>No transparent huge pages in this process from now on (prctl(2)).</summary>
    public static void DisableHugePages(KernelEntry call) => call(SystemCalls.prctl, PR_SET_THP_DISABLE, 1, 0, 0, 0, 0);

    /// <summary>A userfaultfd that blocks in read() would stop the whole loop, and poll() refuses it.</summary>
    public static void SetNonblocking(KernelEntry call, int file)
    {
        long flags = call(SystemCalls.fcntl, file, F_GETFL, 0, 0, 0, 0);
        if (flags >= 0)
            call(SystemCalls.fcntl, file, F_SETFL, flags | O_NONBLOCK, 0, 0, 0);
    }

    /// <summary>Moves a descriptor to the given number.</summary>
    public static void MoveDescriptor(KernelEntry call, int file, int number)
    {
        if (file == number)
            return;
        call(SystemCalls.dup3, file, number, 0, 0, 0, 0);
        Close(call, file);
    }

    public static void Exit(KernelEntry call, int code)
    {
        for (;;)
            call(SystemCalls.exit_group, code, 0, 0, 0, 0, 0);
    }
}

// Buffers on the stack are structs of a size, never stackalloc: that makes the compiler guard the frame with a cookie, which is a static.

[StructLayout(LayoutKind.Sequential)]
internal struct Words2
{
    public ulong First;
    public ulong Second;
}

[StructLayout(LayoutKind.Sequential)]
internal struct TimeSpecification
{
    public long Seconds;
    public long Nanoseconds;
}

[StructLayout(LayoutKind.Sequential)]
internal struct PollDescriptor
{
    public int File;
    public short Events;
    public short Returned;
}

// One for each context, and one for the source.
[StructLayout(LayoutKind.Sequential, Size = (ControlPage.MaximumContexts + 1) * 8)]
internal struct PollDescriptors
{
    public PollDescriptor First;
}

/// <summary>Loads and stores that other processes see in program order: the compiler neither drops, doubles nor moves them.</summary>
internal static unsafe partial class Published
{
    private struct Cell8
    {
        public volatile byte Value;
    }

    private struct Cell32
    {
        public volatile uint Value;
    }

    private struct Cell64
    {
        // A volatile ulong is no C# field type; a volatile pointer-sized one is the same 8 bytes.
        public volatile nuint Value;
    }

    public static uint Read(uint* from) => ((Cell32*)from)->Value;

    public static ulong Read(ulong* from) => ((Cell64*)from)->Value;

    public static void Write(byte* to, byte value)
    {
        Before();
        ((Cell8*)to)->Value = value;
    }

    public static void Write(uint* to, uint value)
    {
        Before();
        ((Cell32*)to)->Value = value;
    }

    public static void Write(ulong* to, ulong value)
    {
        Before();
        ((Cell64*)to)->Value = (nuint)value;
    }

    /// <summary>Of the tests; no other build has a body for it, or calls it.</summary>
    static partial void Before();
}
