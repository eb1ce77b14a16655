using System.Buffers;
using System.Text;

namespace Pvmmap.Linux;

/// <summary>open(2), read(2), write(2), lseek(2), readlink(2) and statx(2).</summary>
internal static unsafe class Files
{
    public const int STATX_UID = 0x8;
    public const int STATX_GID = 0x10;

    public const int AT_FDCWD = -100;
    public const int O_RDONLY = 0;
    public const int O_WRONLY = 1;
    public const int O_RDWR = 2;
    public const int O_CLOEXEC = 0x80000;
    public const int SEEK_END = 2;
    public const int SEEK_DATA = 3;
    public const int SEEK_HOLE = 4;

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
        byte[] name = new byte[Encoding.UTF8.GetMaxByteCount(path.Length) + 1];
        Encoding.UTF8.GetBytes(path, name);
        Span<byte> link = stackalloc byte[longest];
        fixed (byte* from = name, to = link)
        {
            SyscallResult length = SystemCall.Invoke(SystemCall.SYS_readlinkat, AT_FDCWD, (long)from, (long)to, longest);
            return length.Failed || length.Value == longest ? null : Encoding.UTF8.GetString(link[..(int)length.Value]);
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

    /// <summary>Writes all of it at a place in the file (pwrite(2)).</summary>
    public static void WriteAll(FileDescriptor file, ReadOnlySpan<byte> content, ulong offset)
    {
        fixed (byte* from = content)
        {
            for (int done = 0; done < content.Length;)
            {
                done += (int)SystemCall.InvokeUninterrupted(SystemCall.SYS_pwrite64, file.Number, (long)(from + done), content.Length - done, (long)offset + done)
                    .OrThrow("write a description");
            }
        }
    }

    /// <summary>lseek(2).</summary>
    public static SyscallResult Seek(FileDescriptor file, ulong offset, int whence) => SystemCall.Invoke(SystemCall.SYS_lseek, file.Number, (long)offset, whence);
}
