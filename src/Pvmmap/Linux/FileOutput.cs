using System.Text;

namespace Pvmmap.Linux;

/// <summary>Files that are made here: open(2) with O_CREAT and O_TMPFILE, link(2), write(2), ftruncate(2).</summary>
internal static unsafe class FileOutput
{
    public const int O_CREAT = 0x40;
    public const int O_EXCL = 0x80;
    public const int O_TMPFILE = 0x410000; // x86's: O_DIRECTORY, which is in it, differs between machines
    private const int Arm64TemporaryFile = 0x404000;
    public const int AT_SYMLINK_FOLLOW = 0x400;
    public const int RENAME_NOREPLACE = 1;
    public const int STATX_TYPE = 0x1;
    public const int S_IFMT = 0xf000;
    public const int S_IFREG = 0x8000;

    /// <summary>What is there: a regular file or anything else, links followed. ENOENT if nothing is.</summary>
    public static Errno TryFind(string path, out bool isRegular)
    {
        const int size = 256, mode = 28; // struct statx
        byte[] name = Encoding.UTF8.GetBytes(path + "\0"), found = new byte[size];
        fixed (byte* from = name, to = found)
        {
            Errno errno = SystemCall.Invoke(SystemCall.SYS_statx, Files.AT_FDCWD, (long)from, 0, STATX_TYPE, (long)to).Errno;
            isRegular = errno == Errno.None && (BitConverter.ToUInt16(found, mode) & S_IFMT) == S_IFREG;
            return errno;
        }
    }

    /// <summary>Renames a file within its file system.</summary>
    /// <param name="path">What it is called.</param>
    /// <param name="name">What it is to be called.</param>
    /// <param name="replace">A file of that name is replaced; else it is EEXIST.</param>
    public static Errno TryRename(string path, string name, bool replace)
    {
        Errno errno = Rename(replace ? 0 : RENAME_NOREPLACE);
        if (replace || errno != Errno.EINVAL) return errno;
        // Not every file system can look and rename in one step.
        return TryFind(name, out _) == Errno.ENOENT ? Rename(0) : Errno.EEXIST;

        Errno Rename(int flags)
        {
            byte[] from = Encoding.UTF8.GetBytes(path + "\0"), to = Encoding.UTF8.GetBytes(name + "\0");
            fixed (byte* old = from, now = to)
                return SystemCall.InvokeUninterrupted(SystemCall.SYS_renameat2, Files.AT_FDCWD, (long)old, Files.AT_FDCWD, (long)now, flags).Errno;
        }
    }

    /// <summary>Makes a file that is not there yet, for its user alone.</summary>
    public static SyscallResult TryCreate(string path) => TryCreate(path, O_CREAT | O_EXCL | Files.O_RDWR);

    /// <summary>
    /// Makes a file without a name in a folder (O_TMPFILE), for its user alone: unless it gets one by <see cref="TryLink"/>, it is gone when it is closed.
    /// </summary>
    public static SyscallResult TryCreateUnnamed(string folder) => TryCreate(folder, (Processor.IsArm64 ? Arm64TemporaryFile : O_TMPFILE) | Files.O_RDWR);

    /// <summary>Gives an open file another name, which must be free; also its first, if it was made without one.</summary>
    public static Errno TryLink(FileDescriptor file, string path)
    {
        byte[] from = Encoding.UTF8.GetBytes($"/proc/self/fd/{file.Number}\0"), to = Encoding.UTF8.GetBytes(path + "\0");
        fixed (byte* old = from, name = to)
            return SystemCall.Invoke(SystemCall.SYS_linkat, Files.AT_FDCWD, (long)old, Files.AT_FDCWD, (long)name, AT_SYMLINK_FOLLOW).Errno;
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
            return SystemCall.InvokeUninterrupted(SystemCall.SYS_openat, Files.AT_FDCWD, (long)name, flags | Files.O_CLOEXEC, forItsUser);
    }
}
