using System.Runtime.InteropServices;

namespace Pvmmap.Linux;

/// <summary>userfaultfd(2): linux/userfaultfd.h. The ioctls run in this process, also on a userfaultfd of another process's address space.</summary>
internal static unsafe class Userfaultfd
{
    public const ulong UFFD_API = 0xaa;

    public const uint UFFDIO_API = 0xc018aa3f;
    public const uint UFFDIO_REGISTER = 0xc020aa00;
    public const uint UFFDIO_UNREGISTER = 0x8010aa01;
    public const uint UFFDIO_WAKE = 0x8010aa02;
    public const uint UFFDIO_COPY = 0xc028aa03;
    public const uint UFFDIO_ZEROPAGE = 0xc020aa04;
    public const uint UFFDIO_POISON = 0xc020aa08;
    public const uint USERFAULTFD_IOC_NEW = 0xaa00;

    public const ulong UFFDIO_REGISTER_MODE_MISSING = 1;
    public const int UFFD_USER_MODE_ONLY = 1;
    public const int O_NONBLOCK = 0x800;
    public const int O_CLOEXEC = 0x80000;

    public const ulong UFFD_FEATURE_EVENT_FORK = 1 << 1;
    public const ulong UFFD_FEATURE_EVENT_REMAP = 1 << 2;
    public const ulong UFFD_FEATURE_EVENT_REMOVE = 1 << 3;
    public const ulong UFFD_FEATURE_EVENT_UNMAP = 1 << 6;
    public const ulong UFFD_FEATURE_POISON = 1 << 14;
    public const ulong UFFD_FEATURE_MOVE = 1 << 16;

    [StructLayout(LayoutKind.Sequential)]
    public struct Api
    {
        public ulong Version;
        public ulong Features;
        public ulong Ioctls;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Range
    {
        public ulong Start;
        public ulong Length;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Register
    {
        public Range Range;
        public ulong Mode;
        public ulong Ioctls;
    }

    /// <summary>/dev/userfaultfd (Linux 6.1), of which anybody may make userfaultfds who has it open; null if this process may not open it.</summary>
    public static FileDescriptor? TryOpenDevice() => !KernelFeatures.IsWithout(KernelFeature.DevUserfaultfd)
        && Files.TryOpen("/dev/userfaultfd", Files.O_RDWR) is { Failed: false } opened ? new FileDescriptor(opened.Value) : null;

    /// <summary>UFFDIO_API: once per descriptor. EVENT_FORK needs CAP_SYS_PTRACE of the process that makes this call (EPERM).</summary>
    public static Errno Enable(FileDescriptor uffd, ulong features, out ulong available)
    {
        Api api = new() { Version = UFFD_API, Features = features };
        Errno errno = SystemCall.Invoke(SystemCall.SYS_ioctl, uffd.Number, UFFDIO_API, (long)&api).Errno;
        available = api.Features;
        return errno;
    }

    /// <summary>UFFDIO_REGISTER for missing pages.</summary>
    public static Errno RegisterMissing(FileDescriptor uffd, PageRange range)
    {
        Register register = new() { Range = { Start = range.Start, Length = range.Length }, Mode = UFFDIO_REGISTER_MODE_MISSING };
        return SystemCall.Invoke(SystemCall.SYS_ioctl, uffd.Number, UFFDIO_REGISTER, (long)&register).Errno;
    }
}
