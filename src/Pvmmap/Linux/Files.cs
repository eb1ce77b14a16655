using System.Text;

namespace Pvmmap.Linux;

/// <summary>open(2).</summary>
internal static unsafe class Files
{
    public const int AT_FDCWD = -100;
    public const int O_RDONLY = 0;
    public const int O_RDWR = 2;
    public const int O_CLOEXEC = 0x80000;

    /// <summary>Opens an existing file; O_CLOEXEC is added.</summary>
    public static FileDescriptor Open(string path, int flags, string? hint = null)
    {
        fixed (byte* name = Encoding.UTF8.GetBytes(path + "\0"))
        {
            SyscallResult result = SystemCall.InvokeUninterrupted(SystemCall.SYS_openat, AT_FDCWD, (long)name, flags | O_CLOEXEC);
            return FileDescriptor.From(result, $"open {path}", hint: hint);
        }
    }
}
