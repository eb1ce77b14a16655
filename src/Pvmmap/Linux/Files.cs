using System.Buffers;
using System.Text;

namespace Pvmmap.Linux;

/// <summary>open(2) and read(2).</summary>
internal static unsafe class Files
{
    public const int AT_FDCWD = -100;
    public const int O_RDONLY = 0;
    public const int O_WRONLY = 1;
    public const int O_RDWR = 2;
    public const int O_CLOEXEC = 0x80000;

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
}
