using System.Runtime.InteropServices;

namespace Pvmmap.Linux;

/// <summary>mmap(2) and its family, and process_vm_readv/writev(2): constants, and the calls for this process.</summary>
internal static unsafe class Memory
{
    public const int PROT_NONE = 0;
    public const int PROT_READ = 1;
    public const int PROT_WRITE = 2;
    public const int PROT_EXEC = 4;

    public const int MAP_SHARED = 0x01;
    public const int MAP_PRIVATE = 0x02;
    public const int MAP_FIXED = 0x10;
    public const int MAP_ANONYMOUS = 0x20;
    public const int MAP_GROWSDOWN = 0x100;
    public const int MAP_HUGETLB = 0x40000;
    public const int MAP_HUGE_SHIFT = 26;
    public const int MAP_NORESERVE = 0x4000;
    public const int MAP_FIXED_NOREPLACE = 0x100000;

    public const int MREMAP_MAYMOVE = 1;
    public const int MREMAP_FIXED = 2;

    public const int MADV_RANDOM = 1;
    public const int MADV_SEQUENTIAL = 2;
    public const int MADV_DONTNEED = 4;
    public const int MADV_REMOVE = 9;
    public const int MADV_DONTFORK = 10;
    public const int MADV_DOFORK = 11;
    public const int MADV_MERGEABLE = 12;
    public const int MADV_HUGEPAGE = 14;
    public const int MADV_NOHUGEPAGE = 15;
    public const int MADV_DONTDUMP = 16;
    public const int MADV_WIPEONFORK = 18;
    public const int MADV_KEEPONFORK = 19;
    public const int MADV_DONTNEED_LOCKED = 24;
    public const int MADV_COLLAPSE = 25;
    public const int MADV_GUARD_INSTALL = 102;

    [StructLayout(LayoutKind.Sequential)]
    public struct IoVector
    {
        public ulong Base;
        public ulong Length;
    }

    public static SyscallResult Map(ulong address, ulong length, int protection, int flags, int fd = -1, long offset = 0) =>
        SystemCall.Invoke(SystemCall.SYS_mmap, (long)address, (long)length, protection, flags, fd, offset);

    public static SyscallResult Unmap(ulong address, ulong length) =>
        SystemCall.Invoke(SystemCall.SYS_munmap, (long)address, (long)length);

    public static SyscallResult Protect(ulong address, ulong length, int protection) =>
        SystemCall.Invoke(SystemCall.SYS_mprotect, (long)address, (long)length, protection);

    /// <summary>Reads another process's memory; fewer bytes than asked is an EFAULT.</summary>
    public static Errno ReadFrom(int pid, ulong address, Span<byte> destination) =>
        Transfer(SystemCall.SYS_process_vm_readv, pid, address, destination, out _);

    /// <summary>Reads as much as is readable from <paramref name="address"/> on.</summary>
    public static int ReadUpTo(int pid, ulong address, Span<byte> destination)
    {
        Transfer(SystemCall.SYS_process_vm_readv, pid, address, destination, out int done);
        return done;
    }

    /// <summary>Writes another process's memory; fewer bytes than asked is an EFAULT.</summary>
    public static Errno WriteTo(int pid, ulong address, ReadOnlySpan<byte> source) =>
        Transfer(SystemCall.SYS_process_vm_writev, pid, address, source, out _);

    /// <summary>The same of two pieces in one call. The second is not written before the first.</summary>
    public static Errno WriteTo(int pid, ulong address, ReadOnlySpan<byte> source, ulong secondAddress, ReadOnlySpan<byte> secondSource)
    {
        fixed (byte* first = source, second = secondSource)
        {
            IoVector* near = stackalloc IoVector[2], far = stackalloc IoVector[2];
            near[0] = new() { Base = (ulong)first, Length = (ulong)source.Length };
            near[1] = new() { Base = (ulong)second, Length = (ulong)secondSource.Length };
            far[0] = near[0] with { Base = address };
            far[1] = near[1] with { Base = secondAddress };
            SyscallResult result = SystemCall.InvokeUninterrupted(SystemCall.SYS_process_vm_writev, pid, (long)near, 2, (long)far, 2);
            if (result.Failed) return result.Errno;
            return result.Value == source.Length + secondSource.Length ? Errno.None : Errno.EFAULT;
        }
    }

    /// <summary>Whether this process may use process_vm_readv() and process_vm_writev() at all: tried on itself, which is always allowed otherwise.</summary>
    public static Errno TryTransfers()
    {
        byte there = 0;
        Span<byte> here = stackalloc byte[1];
        Errno errno = ReadFrom(Environment.ProcessId, (ulong)&there, here);
        return errno == Errno.None ? WriteTo(Environment.ProcessId, (ulong)&there, here) : errno;
    }

    private static Errno Transfer(int call, int pid, ulong address, ReadOnlySpan<byte> local, out int done)
    {
        done = 0;
        fixed (byte* here = local)
        {
            while (done < local.Length)
            {
                IoVector near = new() { Base = (ulong)(here + done), Length = (ulong)(local.Length - done) };
                IoVector far = new() { Base = address + (ulong)done, Length = near.Length };
                SyscallResult result = SystemCall.InvokeUninterrupted(call, pid, (long)&near, 1, (long)&far, 1);
                if (result.Failed) return result.Errno;
                if (result.Value == 0) return Errno.EFAULT;
                done += (int)result.Value;
            }
        }
        return Errno.None;
    }
}
