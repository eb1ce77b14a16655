using System.Runtime.InteropServices;
using Pvmmap.Linux;

namespace Pvmmap.Holder.Freestanding;

/// <summary>The userfaultfd ioctls the holder and its guardian use (linux/userfaultfd.h).</summary>
internal static unsafe class Userfaultfd
{
    private const ulong UFFDIO_API = 0xc018aa3f;
    private const ulong UFFDIO_REGISTER = 0xc020aa00;
    private const ulong UFFDIO_UNREGISTER = 0x8010aa01;
    private const ulong UFFDIO_WAKE = 0x8010aa02;
    private const ulong UFFDIO_COPY = 0xc028aa03;
    private const ulong UFFDIO_ZEROPAGE = 0xc020aa04;
    private const ulong UFFDIO_POISON = 0xc020aa08;

    private const ulong UFFD_API = 0xaa;
    private const ulong UFFD_FEATURE_EVENT_UNMAP = 0x40;
    private const ulong UFFDIO_REGISTER_MODE_MISSING = 1;
    private const long UFFD_USER_MODE_ONLY = 1;

    public const byte EventPagefault = 0x12;
    public const byte EventFork = 0x13;
    public const byte EventRemap = 0x14;
    public const byte EventRemove = 0x15;
    public const byte EventUnmap = 0x16;

    [StructLayout(LayoutKind.Sequential)]
    private struct Range
    {
        public ulong Start;
        public ulong Length;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct CopyArgument
    {
        public ulong Destination;
        public ulong Source;
        public ulong Length;
        public ulong Mode;
        public long Copied;
    }

    // uffdio_zeropage and uffdio_poison are alike.
    [StructLayout(LayoutKind.Sequential)]
    private struct FillArgument
    {
        public ulong Start;
        public ulong Length;
        public ulong Mode;
        public long Filled;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ApiArgument
    {
        public ulong Version;
        public ulong Features;
        public ulong Ioctls;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct RegisterArgument
    {
        public Range Range;
        public ulong Mode;
        public ulong Ioctls;
    }

    /// <summary>A userfaultfd of this process's own memory that announces when the range is unmapped. A descriptor, or a negated errno.</summary>
    public static int Watch(KernelEntry call, ulong start, ulong length, uint without)
    {
        int file = Open(call, UFFD_FEATURE_EVENT_UNMAP, 0, without);
        if (file == Kernel.EPERM && (without & KernelFeature.UserModeOnly) == 0)
            file = Open(call, UFFD_FEATURE_EVENT_UNMAP, UFFD_USER_MODE_ONLY, without);
        if (file < 0)
            return file;
        long result = Register(call, file, start, length);
        if (result >= 0)
            return file;
        Kernel.Close(call, file);
        return (int)result;
    }

    /// <summary>A userfaultfd of this process's own memory, for faults of user and kernel mode. A descriptor, or a negated errno.</summary>
    public static int Open(KernelEntry call, uint without) => Open(call, 0, 0, without);

    private static int Open(KernelEntry call, ulong features, long flags, uint without)
    {
        if ((without & KernelFeature.Userfaultfd) != 0)
            return Kernel.ENOSYS;
        long file = call(SystemCalls.userfaultfd, Kernel.O_CLOEXEC | Kernel.O_NONBLOCK | flags, 0, 0, 0, 0, 0);
        if (file < 0)
            return (int)file;
        ApiArgument api;
        api.Version = UFFD_API;
        api.Features = features;
        api.Ioctls = 0;
        long result = Kernel.Ioctl(call, (int)file, UFFDIO_API, &api);
        if (result >= 0)
            return (int)file;
        Kernel.Close(call, (int)file);
        return (int)result;
    }

    /// <summary>Whoever touches a missing page there waits from now on.</summary>
    public static long Register(KernelEntry call, int file, ulong start, ulong length)
    {
        RegisterArgument register;
        register.Range.Start = start;
        register.Range.Length = length;
        register.Mode = UFFDIO_REGISTER_MODE_MISSING;
        register.Ioctls = 0;
        return Kernel.Ioctl(call, file, UFFDIO_REGISTER, &register);
    }

    /// <summary>Copies whole pages into the target. Returns the bytes that are in place, at least one page, or a negated errno.</summary>
    public static long Copy(KernelEntry call, int file, ulong destination, ulong source, ulong length)
    {
        CopyArgument argument;
        argument.Destination = destination;
        argument.Source = source;
        argument.Length = length;
        argument.Mode = 0;
        argument.Copied = 0;
        long result = Kernel.Ioctl(call, file, UFFDIO_COPY, &argument);
        return Outcome(result, argument.Copied, length);
    }

    /// <summary>Maps the zero page; result as for <see cref="Copy"/>.</summary>
    public static long ZeroPage(KernelEntry call, int file, ulong start, ulong length) =>
        Fill(call, file, UFFDIO_ZEROPAGE, start, length);

    /// <summary>Makes pages raise SIGBUS when touched (Linux 6.6); result as for <see cref="Copy"/>.</summary>
    public static long Poison(KernelEntry call, int file, ulong start, ulong length) =>
        Fill(call, file, UFFDIO_POISON, start, length);

    public static long Wake(KernelEntry call, int file, ulong start, ulong length) => Simple(call, file, UFFDIO_WAKE, start, length);

    public static long Unregister(KernelEntry call, int file, ulong start, ulong length) =>
        Simple(call, file, UFFDIO_UNREGISTER, start, length);

    private static long Fill(KernelEntry call, int file, ulong request, ulong start, ulong length)
    {
        FillArgument argument;
        argument.Start = start;
        argument.Length = length;
        argument.Mode = 0;
        argument.Filled = 0;
        long result = Kernel.Ioctl(call, file, request, &argument);
        return Outcome(result, argument.Filled, length);
    }

    private static long Simple(KernelEntry call, int file, ulong request, ulong start, ulong length)
    {
        Range range;
        range.Start = start;
        range.Length = length;
        return Kernel.Ioctl(call, file, request, &range);
    }

    // A short count comes back as -EAGAIN with the bytes done in the last field; an early -EAGAIN may leave that field as it was.
    private static long Outcome(long result, long done, ulong length) => done > 0 ? done : result == 0 ? (long)length : result;
}

/// <summary>struct uffd_msg; the fields after <see cref="Event"/> mean what the event says.</summary>
[StructLayout(LayoutKind.Explicit, Size = 32)]
internal struct UserfaultMessage
{
    [FieldOffset(0)] public byte Event;
    /// <summary>Ours, 0 from the kernel (reserved there). Remap: how far it has been applied.</summary>
    [FieldOffset(1)] public byte Applied;
    /// <summary>Ours, 0 from the kernel (reserved there). Remap and unmap: the entry of the control page's late unmaps that is its own, counted from 1.</summary>
    [FieldOffset(4)] public uint Slot;
    /// <summary>Fork: the child's userfaultfd.</summary>
    [FieldOffset(8)] public uint Descriptor;
    /// <summary>Remap: the old address. Remove and unmap: the start.</summary>
    [FieldOffset(8)] public ulong From;
    /// <summary>Remap: the new address. Remove and unmap: the end. Fault: the address.</summary>
    [FieldOffset(16)] public ulong To;
    /// <summary>Remap: the length before the call, bytes.</summary>
    [FieldOffset(24)] public ulong Length;
}
