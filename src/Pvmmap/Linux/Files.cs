using System.Text;

namespace Pvmmap.Linux;

/// <summary>open(2) and read(2).</summary>
internal static unsafe class Files
{
    public const int AT_FDCWD = -100;
    public const int O_RDONLY = 0;
    public const int O_RDWR = 2;
    public const int O_CLOEXEC = 0x80000;

    /// <summary>Opens an existing file; O_CLOEXEC is added.</summary>
    public static FileDescriptor Open(string path, int flags, string? hint = null) =>
        FileDescriptor.From(TryOpen(path, flags), $"open {path}", hint: hint);

    /// <summary>As <see cref="Open"/>; the result is a descriptor's number or an error.</summary>
    public static SyscallResult TryOpen(string path, int flags)
    {
        fixed (byte* name = Encoding.UTF8.GetBytes(path + "\0"))
            return SystemCall.InvokeUninterrupted(SystemCall.SYS_openat, AT_FDCWD, (long)name, flags | O_CLOEXEC);
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
