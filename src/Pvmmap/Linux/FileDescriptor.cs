using System.Runtime.InteropServices;

namespace Pvmmap.Linux;

/// <summary>An open file descriptor of this process, closed when disposed.</summary>
internal sealed class FileDescriptor : SafeHandle
{
    public const int F_DUPFD_CLOEXEC = 1030;

    public FileDescriptor(long number) : base(-1, ownsHandle: true) => SetHandle((nint)number);

    public override bool IsInvalid => handle < 0;

    /// <summary>The number. Keep the object alive for as long as the number is used.</summary>
    /// <exception cref="ObjectDisposedException">It is closed: by now the number may be that of another thread's descriptor.</exception>
    public int Number
    {
        get
        {
            ObjectDisposedException.ThrowIf(IsClosed, this);
            return (int)handle;
        }
    }

    /// <summary>Another descriptor of the same open file, close-on-exec.</summary>
    public FileDescriptor Duplicate() => From(SystemCall.Invoke(SystemCall.SYS_fcntl, Number, F_DUPFD_CLOEXEC, 0), "duplicate a descriptor");

    protected override bool ReleaseHandle() => !SystemCall.Invoke(SystemCall.SYS_close, handle).Failed;

    /// <summary>Wraps the result of a system call that opens a descriptor.</summary>
    public static FileDescriptor From(SyscallResult result, string operation, int pid = 0, string? hint = null) =>
        new(result.OrThrow(operation, pid, hint: hint));
}
