using System.Buffers;
using Pvmmap.Linux;

namespace Pvmmap.Procfs;

/// <summary>An open file of /proc/PID: errors say whether the process is gone or not ours to look at.</summary>
internal sealed class ProcFile : IDisposable
{
    // Asked for at once, though the kernel's seq_file hands out at most its own buffer, usually one page, per read.
    private const int Chunk = 16 * 1024;

    private readonly FileDescriptor _file;
    private readonly int _pid;
    private readonly string _path;

    private ProcFile(FileDescriptor file, int pid, string path) => (_file, _pid, _path) = (file, pid, path);

    /// <summary>Opens /proc/<paramref name="pid"/>/<paramref name="name"/>.</summary>
    /// <exception cref="PvmmapException">ESRCH: no such process. EPERM: the caller may not read this process's memory layout.</exception>
    public static ProcFile Open(int pid, string name)
    {
        string path = $"/proc/{pid}/{name}";
        SyscallResult result = Files.TryOpen(path, Files.O_RDONLY);
        return result.Failed ? throw Failure("open", result.Errno, pid, path) : new ProcFile(new FileDescriptor(result.Value), pid, path);
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

    /// <summary>
    /// Reads a file that the kernel writes as it is read, in steps of <paramref name="chunk"/> bytes, and no further than the reader wants: what is not
    /// asked for costs nothing.
    /// </summary>
    public static void ReadLines(int pid, string name, int chunk, ILineReader reader)
    {
        byte[] buffer = ArrayPool<byte>.Shared.Rent(2 * chunk);
        try
        {
            using ProcFile file = Open(pid, name);
            int length = 0;
            while (!reader.IsDone)
            {
                if (buffer.Length - length < chunk) Grow(ref buffer, length);
                int got = file.Read(buffer.AsSpan(length, chunk));
                length += got;
                int whole = got == 0 ? length : buffer.AsSpan(0, length).LastIndexOf((byte)'\n') + 1;
                reader.Add(buffer.AsSpan(0, whole));
                if (got == 0) break;
                buffer.AsSpan(whole, length - whole).CopyTo(buffer);
                length -= whole;
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
    public int Read(Span<byte> buffer) => Count(Files.Read(_file, buffer));

    /// <summary>Reads at a place in the file.</summary>
    public int Read(Span<byte> buffer, ulong offset) => Count(Files.Read(_file, buffer, offset));

    /// <summary>Of maps: asks for the VMA at an address or the next one above it.</summary>
    public Errno Query(ulong address, Span<byte> name, out ProcmapQuery.Query vma) => ProcmapQuery.Find(_file, address, name, out vma);

    public void Dispose() => _file.Dispose();

    private int Count(SyscallResult result) => result.Failed ? throw Failure("read", result.Errno, _pid, _path) : (int)result.Value;

    // ENOENT is open() of a directory that is gone, ESRCH a file that was opened in time. EACCES is the ptrace access check.
    private static PvmmapException Failure(string what, Errno errno, int pid, string path) => errno switch
    {
        Errno.ENOENT or Errno.ESRCH => new PvmmapException(Errno.ESRCH, $"{what} {path}", pid, hint: "no such process"),
        Errno.EACCES or Errno.EPERM => new PvmmapException(Errno.EPERM, $"{what} {path}", pid, hint: "the caller may not ptrace this process"),
        _ => new PvmmapException(errno, $"{what} {path}", pid),
    };
}

/// <summary>Takes the lines of a file one after the other.</summary>
internal interface ILineReader
{
    /// <summary>The rest is not wanted.</summary>
    bool IsDone { get; }

    /// <summary>Takes whole lines.</summary>
    void Add(ReadOnlySpan<byte> text);
}
