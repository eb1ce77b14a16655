using System.Buffers;
using System.Text;

namespace Pvmmap.Linux;

/// <summary>open(2), read(2), write(2), link(2), readlink(2) and statx(2).</summary>
internal static unsafe class Files
{
    public const int STATX_TYPE = 0x1;
    public const int S_IFMT = 0xf000;
    public const int S_IFREG = 0x8000;
    public const int STATX_UID = 0x8;
    public const int STATX_GID = 0x10;

    public const int AT_FDCWD = -100;
    public const int O_RDONLY = 0;
    public const int O_WRONLY = 1;
    public const int O_RDWR = 2;
    public const int O_CREAT = 0x40;
    public const int O_EXCL = 0x80;
    public const int O_CLOEXEC = 0x80000;
    public const int O_TMPFILE = 0x410000; // x86's: O_DIRECTORY, which is in it, differs between machines
    private const int Arm64TemporaryFile = 0x404000;
    public const int AT_SYMLINK_FOLLOW = 0x400;

    /// <summary>Opens an existing file; O_CLOEXEC is added.</summary>
    public static FileDescriptor Open(string path, int flags, string? hint = null) =>
        FileDescriptor.From(TryOpen(path, flags), $"open {path}", hint: hint);

    /// <summary>As <see cref="Open"/>; the result is a descriptor's number or an error.</summary>
    public static SyscallResult TryOpen(string path, int flags)
    {
        const int usual = 256;
        int longest = Encoding.UTF8.GetMaxByteCount(path.Length) + 1;
        Span<byte> bytes = longest <= usual ? stackalloc byte[usual] : new byte[longest];
        bytes[Encoding.UTF8.GetBytes(path, bytes)] = 0;
        fixed (byte* name = bytes)
            return SystemCall.InvokeUninterrupted(SystemCall.SYS_openat, AT_FDCWD, (long)name, flags | O_CLOEXEC);
    }

    /// <summary>What a symbolic link names; null if it cannot be read, or is longer than any path.</summary>
    public static string? TryReadLink(string path)
    {
        const int longest = 4096;
        byte[] name = new byte[Encoding.UTF8.GetMaxByteCount(path.Length) + 1], link = new byte[longest];
        Encoding.UTF8.GetBytes(path, name);
        fixed (byte* from = name, to = link)
        {
            SyscallResult length = SystemCall.Invoke(SystemCall.SYS_readlinkat, AT_FDCWD, (long)from, (long)to, longest);
            return length.Failed || length.Value == longest ? null : Encoding.UTF8.GetString(link, 0, (int)length.Value);
        }
    }

    /// <summary>Who owns a file; null if it cannot be asked.</summary>
    public static (uint Uid, uint Gid)? TryOwner(string path)
    {
        const int size = 256, uid = 20, gid = 24; // struct statx
        byte[] name = new byte[Encoding.UTF8.GetMaxByteCount(path.Length) + 1], found = new byte[size];
        Encoding.UTF8.GetBytes(path, name);
        fixed (byte* from = name, to = found)
        {
            return SystemCall.Invoke(SystemCall.SYS_statx, AT_FDCWD, (long)from, 0, STATX_UID | STATX_GID, (long)to).Failed
                ? null : (BitConverter.ToUInt32(found, uid), BitConverter.ToUInt32(found, gid));
        }
    }

    /// <summary>True for a regular file, false for anything else, links followed; null if it cannot be asked, for instance because nothing is there.</summary>
    public static bool? TryIsRegular(string path)
    {
        const int size = 256, mode = 28; // struct statx
        byte[] name = Encoding.UTF8.GetBytes(path + "\0"), found = new byte[size];
        fixed (byte* from = name, to = found)
        {
            return SystemCall.Invoke(SystemCall.SYS_statx, AT_FDCWD, (long)from, 0, STATX_TYPE, (long)to).Failed
                ? null : (BitConverter.ToUInt16(found, mode) & S_IFMT) == S_IFREG;
        }
    }

    /// <summary>Makes a file that is not there yet, for its user alone.</summary>
    public static SyscallResult TryCreate(string path) => TryCreate(path, O_CREAT | O_EXCL | O_RDWR);

    /// <summary>
    /// Makes a file without a name in a folder (O_TMPFILE), for its user alone: unless it gets one by <see cref="TryLink"/>, it is gone when it is closed.
    /// </summary>
    public static SyscallResult TryCreateUnnamed(string folder) => TryCreate(folder, (Processor.IsArm64 ? Arm64TemporaryFile : O_TMPFILE) | O_RDWR);

    /// <summary>Gives an open file another name, which must be free; also its first, if it was made without one.</summary>
    public static Errno TryLink(FileDescriptor file, string path)
    {
        byte[] from = Encoding.UTF8.GetBytes($"/proc/self/fd/{file.Number}\0"), to = Encoding.UTF8.GetBytes(path + "\0");
        fixed (byte* old = from, name = to)
            return SystemCall.Invoke(SystemCall.SYS_linkat, AT_FDCWD, (long)old, AT_FDCWD, (long)name, AT_SYMLINK_FOLLOW).Errno;
    }

    /// <summary>The whole of a small file; null if it cannot be opened or read.</summary>
    public static string? TryReadText(string path)
    {
        const int enough = 64 * 1024;
        SyscallResult opened = TryOpen(path, O_RDONLY);
        if (opened.Failed) return null;
        using FileDescriptor file = new(opened.Value);
        byte[] buffer = ArrayPool<byte>.Shared.Rent(enough);
        try
        {
            int length = 0;
            while (length < buffer.Length)
            {
                SyscallResult got = Read(file, buffer.AsSpan(length));
                if (got.Failed) return null;
                if (got.Value == 0) return Encoding.UTF8.GetString(buffer, 0, length);
                length += (int)got.Value;
            }
            return null;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>Writes to an existing file of the kernel, in one go. False if it cannot be opened or refuses it.</summary>
    public static bool TryWriteText(string path, string text)
    {
        SyscallResult opened = TryOpen(path, O_WRONLY);
        if (opened.Failed) return false;
        using FileDescriptor file = new(opened.Value);
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        fixed (byte* from = bytes)
            return SystemCall.InvokeUninterrupted(SystemCall.SYS_write, file.Number, (long)from, bytes.Length).Value == bytes.Length;
    }

    public static SyscallResult Read(FileDescriptor file, Span<byte> buffer)
    {
        fixed (byte* to = buffer)
            return SystemCall.InvokeUninterrupted(SystemCall.SYS_read, file.Number, (long)to, buffer.Length);
    }

    /// <summary>Reads at a place in the file (pread(2)).</summary>
    public static SyscallResult Read(FileDescriptor file, Span<byte> buffer, ulong offset)
    {
        fixed (byte* to = buffer)
            return SystemCall.InvokeUninterrupted(SystemCall.SYS_pread64, file.Number, (long)to, buffer.Length, (long)offset);
    }

    /// <summary>Writes on; as many bytes as it takes at once.</summary>
    public static SyscallResult Write(FileDescriptor file, ReadOnlySpan<byte> bytes)
    {
        fixed (byte* from = bytes)
            return WithoutSizeSignal(SystemCall.SYS_write, file.Number, (long)from, bytes.Length);
    }

    /// <summary>Writes at a place in the file (pwrite(2)).</summary>
    public static SyscallResult Write(FileDescriptor file, ReadOnlySpan<byte> bytes, ulong offset)
    {
        fixed (byte* from = bytes)
            return WithoutSizeSignal(SystemCall.SYS_pwrite64, file.Number, (long)from, bytes.Length, (long)offset);
    }

    public static Errno Truncate(FileDescriptor file, ulong length) =>
        WithoutSizeSignal(SystemCall.SYS_ftruncate, file.Number, (long)length).Errno;

    /// <summary>What close(2) would say: file systems over a network write the rest then, and fail then. The file stays open.</summary>
    public static Errno Settle(FileDescriptor file)
    {
        SyscallResult second = SystemCall.Invoke(SystemCall.SYS_fcntl, file.Number, FileDescriptor.F_DUPFD_CLOEXEC, 0);
        return second.Failed ? second.Errno : SystemCall.Invoke(SystemCall.SYS_close, second.Value).Errno;
    }

    // A file that gets larger than RLIMIT_FSIZE is EFBIG, and SIGXFSZ, which ends the process before anybody sees the error.
    private static SyscallResult WithoutSizeSignal(long number, long a1, long a2, long a3 = 0, long a4 = 0)
    {
        ulong signal = Signals.Bit(Signals.SIGXFSZ), mask = Signals.Block(signal);
        SyscallResult result = SystemCall.InvokeUninterrupted(number, a1, a2, a3, a4);
        if (result.Errno == Errno.EFBIG) Signals.Discard(signal);
        Signals.SetMask(mask);
        return result;
    }

    private static SyscallResult TryCreate(string path, int flags)
    {
        const int forItsUser = 0x180; // 0600
        fixed (byte* name = Encoding.UTF8.GetBytes(path + "\0"))
            return SystemCall.InvokeUninterrupted(SystemCall.SYS_openat, AT_FDCWD, (long)name, flags | O_CLOEXEC, forItsUser);
    }
}
