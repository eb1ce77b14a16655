using System.Globalization;
using System.Text;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>What the threads of a puppet counted.</summary>
public readonly record struct Tally(ulong Rounds, ulong Old, ulong New, ulong Zero, ulong Other, ulong Faults, ulong Backward);

/// <summary>programs/puppet.c: does what the test says.</summary>
public sealed class Puppet : Actor
{
    private bool _hasLibrary;
    private int _idlers;

    internal Puppet(Theatre theatre, int pid, bool fromNursery)
        : base(theatre, pid, fromNursery)
    {
    }

    /// <summary>It can be the caller.</summary>
    public bool HasLibrary => _hasLibrary;

    /// <summary>With the library come the .NET runtime and its memory.</summary>
    public override bool MapsByItself => _hasLibrary;

    /// <summary>Memory of the puppet's own for arguments of system calls.</summary>
    public ulong Scratch => Number($"scratch");

    /// <summary>A descriptor of the file, for reading and writing.</summary>
    public int OpenFile(string path)
    {
        const long atFdCwd = -100, readWrite = 2;
        ulong scratch = Scratch;
        Write(scratch, Encoding.UTF8.GetBytes(path + "\0"));
        return (int)Must(Syscall(Sys.openat, atFdCwd, (long)scratch, readWrite), $"open {path}");
    }

    /// <summary>A mapping with content.</summary>
    public ulong MapFilled(ulong length, ulong seed, ulong step = 1)
    {
        ulong at = Map(length);
        Fill(at, length, seed, 0, step);
        return at;
    }

    /// <summary>fork(2); the child is a puppet too.</summary>
    public Puppet Fork() => new(Theatre, (int)Number($"fork"), fromNursery: false);

    /// <summary>waitpid(2) for a child: the wait status.</summary>
    public int WaitFor(int child) => int.Parse(Ask($"wait {child}")[1], CultureInfo.InvariantCulture);

    public void Exec()
    {
        Post($"exec");
        _hasLibrary = false;
        _idlers = 0;
        Reconnect();
    }

    /// <summary>Threads that write the number of their round into the second word of each page of their slice, in order.</summary>
    public void StartWriters(int count, ulong address, ulong length) => Ask($"writers {count} {address} {length}");

    /// <summary>Three threads handing a count from a low page to a high one and back: see programs/puppet.c.</summary>
    public void StartRelay(ulong low, ulong high) => Ask($"relay {low} {high}");

    /// <summary>So many threads that are another each time: each starts the next and ends.</summary>
    public void StartChains(int count) => Ask($"chains {count}");

    /// <summary>Threads that read the first words of a range that is being replaced.</summary>
    public void StartHammers(int count, ulong address, ulong length, ulong oldSeed, ulong newSeed) =>
        Ask($"hammer {count} {address} {length} {oldSeed} {newSeed}");

    /// <summary>Threads blocked for good in nanosleep, futex, poll, epoll_wait and read, each with another signal blocked.</summary>
    public void StartIdlers(int count)
    {
        Ask($"idle {count}");
        _idlers += count;
        // each on its way there opens what it waits for
        Eventually.Holds(() => Directory.EnumerateDirectories($"/proc/{Pid}/task").Count(IsIdle) >= _idlers, "the idlers are in their system calls");
    }

    // nanosleep or clock_nanosleep, futex, poll, epoll_wait, read; a puppet that waits for its next command is in recvfrom
    private static bool IsIdle(string task) => File.ReadAllText($"{task}/syscall").Split(' ')[0] is "35" or "230" or "202" or "7" or "232" or "0";

    /// <summary>Idlers that are not in their system call any more, each with the errno it came back with; empty as it should be.</summary>
    public string Awake() => string.Join(' ', Ask($"awake"));

    public Tally Tally()
    {
        ulong[] n = [.. Ask($"tally").Select(word => ulong.Parse(word, CultureInfo.InvariantCulture))];
        return new Tally(n[0], n[1], n[2], n[3], n[4], n[5], n[6]);
    }

    public void JoinThreads() => Ask($"join");

    /// <summary>Makes as many VMAs of one page as the kernel allows.</summary>
    /// <returns>The address of the last, which the others follow.</returns>
    public ulong Fragment(ulong most) => Number($"fragment {most}");

    /// <summary>Sets the soft limit, which counts; it may be raised again.</summary>
    public void Limit(Rlimit resource, ulong value)
    {
        long scratch = (long)Scratch;
        Must(Syscall(Sys.prlimit64, 0, (long)resource, 0, scratch), "prlimit64");
        Write((ulong)scratch, BitConverter.GetBytes(value));
        Must(Syscall(Sys.prlimit64, 0, (long)resource, scratch, 0), "prlimit64");
    }

    /// <summary>Registers a range with a userfaultfd of the puppet's own, for missing pages.</summary>
    public void RegisterUserfaultfd(ulong address, ulong length)
    {
        const long UFFDIO_API = 0xc018aa3f, UFFDIO_REGISTER = 0xc020aa00;
        const ulong UFFDIO_REGISTER_MODE_MISSING = 1;
        long fd = Must(Syscall(Sys.userfaultfd, 0x80000), "userfaultfd");
        ulong scratch = Scratch;
        Write(scratch, [.. BitConverter.GetBytes(0xaaUL), .. new byte[16]]);
        Must(Syscall(Sys.ioctl, fd, UFFDIO_API, (long)scratch), "UFFDIO_API");
        ulong[] register = [address, length, UFFDIO_REGISTER_MODE_MISSING, 0];
        Write(scratch, [.. register.SelectMany(BitConverter.GetBytes)]);
        Must(Syscall(Sys.ioctl, fd, UFFDIO_REGISTER, (long)scratch), "UFFDIO_REGISTER");
    }

    /// <summary>Loads libprocess_vm_mmap.so into the puppet, which then can be the caller.</summary>
    /// <param name="library">The file; the built one if it is not given.</param>
    /// <param name="tryOut">False where the library is to refuse every call.</param>
    public Puppet LoadLibrary(string? library = null, bool tryOut = true)
    {
        Assert.True(File.Exists(Theatre.Library), $"{Theatre.Library} is not there: run ./build first");
        Post($"load {library ?? Theatre.Library}");
        Answer();
        _hasLibrary = true;
        if (!tryOut) return this;
        // the library's runtime makes its mappings and opens its files at the first call: not while a test looks
        Assert.Equal((-1, Errno.EINVAL), Call(0, 0, 0));
        ulong range = MapFilled(MiB, 1); // not so small that it is copied at once
        (long copy, Errno errno) = Call(Pid, range, MiB, 0, MmapFlags.Populate);
        // a kernel that makes the calls, and it alone, may leave those within one process to user space
        if (errno != Errno.EOPNOTSUPP)
        {
            Assert.Equal(Errno.None, errno);
            Unmap((ulong)copy, MiB);
        }
        Unmap(range, MiB);
        return this;
    }

    /// <summary>process_vm_mmap() made by the puppet, through the C library.</summary>
    public (long Result, Errno Errno) Call(int pid, ulong source, ulong length, ulong destination = 0, MmapFlags flags = MmapFlags.None) =>
        Called(Ask($"call {pid} {source} {length} {destination} {(ulong)flags}"));

    /// <summary>The same, and munmap() of the source right behind it: the example of the contract.</summary>
    public (long Result, Errno Errno) CallAndRelease(int pid, ulong source, ulong length, ulong destination, MmapFlags flags) =>
        Called(Ask($"release {pid} {source} {length} {destination} {(ulong)flags}"));

    private static (long Result, Errno Errno) Called(string[] words) =>
        (long.Parse(words[0], CultureInfo.InvariantCulture), (Errno)int.Parse(words[1], CultureInfo.InvariantCulture));
}
