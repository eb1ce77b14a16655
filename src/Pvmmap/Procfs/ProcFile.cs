using System.Buffers;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Pvmmap.Procfs;

/// <summary>
/// An open file of /proc/PID. Opened with open(2) itself: the errno decides between "gone" and "not allowed", and FileStream
/// would add a flock, an fstat and its own exceptions.
/// </summary>
internal sealed partial class ProcFile : IDisposable
{
    // Asked for at once, though the kernel's seq_file hands out at most its own buffer, usually one page, per read.
    private const int Chunk = 16 * 1024;
    private const int OpenReadOnlyCloseOnExec = 0x80000;

    private readonly SafeFileHandle _handle;
    private readonly int _pid;
    private readonly string _path;

    private ProcFile(SafeFileHandle handle, int pid, string path) => (_handle, _pid, _path) = (handle, pid, path);

    /// <summary>Opens /proc/<paramref name="pid"/>/<paramref name="name"/>.</summary>
    /// <exception cref="PvmmapException">ESRCH: no such process. EPERM: the caller may not read this process's memory layout.</exception>
    public static ProcFile Open(int pid, string name)
    {
        string path = $"/proc/{pid}/{name}";
        while (true)
        {
            int fd = open(path, OpenReadOnlyCloseOnExec);
            if (fd >= 0) return new ProcFile(new SafeFileHandle(fd, ownsHandle: true), pid, path);
            var errno = (Errno)Marshal.GetLastPInvokeError();
            if (errno != Errno.EINTR) throw Failed("open", errno, pid, path);
        }
    }

    /// <summary>Reads a whole file and parses it.</summary>
    public static T Parse<T>(int pid, string name, Func<ReadOnlySpan<byte>, T> parse)
    {
        byte[] buffer = ArrayPool<byte>.Shared.Rent(Chunk);
        try
        {
            using ProcFile file = Open(pid, name);
            int length = 0;
            while (true)
            {
                if (buffer.Length - length < Chunk / 2) Grow(ref buffer, length);
                int got = file.Read(buffer.AsSpan(length));
                if (got == 0) return parse(buffer.AsSpan(0, length));
                length += got;
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>Replaces a rented buffer by one of twice its size that begins with its first <paramref name="length"/> bytes.</summary>
    public static void Grow(ref byte[] buffer, int length)
    {
        byte[] larger = ArrayPool<byte>.Shared.Rent(checked(buffer.Length * 2));
        buffer.AsSpan(0, length).CopyTo(larger);
        ArrayPool<byte>.Shared.Return(buffer);
        buffer = larger;
    }

    /// <summary>Reads on; 0 at the end, and for the memory files of a process that has no memory any more.</summary>
    public int Read(Span<byte> buffer)
    {
        while (true)
        {
            nint got = read(_handle, ref MemoryMarshal.GetReference(buffer), (nuint)buffer.Length);
            if (got >= 0) return (int)got;
            var errno = (Errno)Marshal.GetLastPInvokeError();
            if (errno != Errno.EINTR) throw Failed("read", errno, _pid, _path);
        }
    }

    /// <summary>Reads at a place in the file.</summary>
    public int Read(Span<byte> buffer, ulong offset)
    {
        while (true)
        {
            nint got = pread(_handle, ref MemoryMarshal.GetReference(buffer), (nuint)buffer.Length, (long)offset);
            if (got >= 0) return (int)got;
            var errno = (Errno)Marshal.GetLastPInvokeError();
            if (errno != Errno.EINTR) throw Failed("read", errno, _pid, _path);
        }
    }

    public void Dispose() => _handle.Dispose();

    // ENOENT is open() of a directory that is gone, ESRCH a file that was opened in time. EACCES is the ptrace access check.
    private static PvmmapException Failed(string what, Errno errno, int pid, string path) => errno switch
    {
        Errno.ENOENT or Errno.ESRCH => new PvmmapException(Errno.ESRCH, $"{what} {path}", pid, hint: "no such process"),
        Errno.EACCES or Errno.EPERM => new PvmmapException(Errno.EPERM, $"{what} {path}", pid, hint: "the caller may not ptrace this process"),
        _ => new PvmmapException(errno, $"{what} {path}", pid),
    };

#pragma warning disable IDE1006 // named as in libc
    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int open(string path, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint read(SafeFileHandle fd, ref byte buffer, nuint count);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint pread(SafeFileHandle fd, ref byte buffer, nuint count, long offset);
#pragma warning restore IDE1006
}
