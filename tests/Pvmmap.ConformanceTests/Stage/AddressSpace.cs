namespace Pvmmap.ConformanceTests.Stage;

/// <summary>An address space that tests can arrange and look into: another process's or the test's own.</summary>
public abstract class AddressSpace
{
    public const ulong Page = PageRange.PageSize, MiB = 1 << 20;

    private static ulong s_nextFree = 0x0100_0000_0000;

    public abstract int Pid { get; }

    /// <summary>Whether mappings come and go there that no test asked for.</summary>
    public virtual bool MapsByItself => true;

    /// <summary>A system call made in that process; negative with the errno when it fails.</summary>
    public abstract long Syscall(long number, params ReadOnlySpan<long> arguments);

    public abstract void Fill(ulong address, ulong length, ulong seed, ulong firstPage = 0, ulong step = 1);

    /// <summary>Reads every word: each <paramref name="step"/>th page must hold the pattern of <paramref name="seed"/>, the others zeros.</summary>
    public abstract Census Examine(ulong address, ulong length, ulong seed, ulong firstPage = 0, ulong step = 1);

    public abstract byte[] Read(ulong address, int length);

    public abstract void Write(ulong address, ReadOnlySpan<byte> bytes);

    /// <summary>Reads one byte of each page (a first touch for what is missing).</summary>
    public abstract void Touch(ulong address, ulong length, ulong stride = Page);

    public ulong Map(ulong length, Prot protection = Prot.ReadWrite, MapFlags flags = 0, ulong at = 0, int fd = -1)
    {
        MapFlags kind = (flags & (MapFlags.Shared | MapFlags.Private)) == 0 ? MapFlags.Private : 0;
        if (fd < 0) kind |= MapFlags.Anonymous;
        return (ulong)Must(Syscall(Sys.mmap, (long)at, (long)length, (long)protection, (long)(flags | kind), fd, 0), "mmap");
    }

    /// <summary>A mapping whose start is a multiple of 2 MiB, advised for or against huge pages.</summary>
    public ulong MapHugeAligned(ulong length, Madv advice)
    {
        ulong at = Map(length + 2 * MiB), aligned = (at + 2 * MiB - 1) & ~(2 * MiB - 1);
        if (aligned > at) Unmap(at, aligned - at);
        if (aligned < at + 2 * MiB) Unmap(aligned + length, at + 2 * MiB - aligned);
        Must(Advise(aligned, length, advice), "madvise");
        return aligned;
    }

    /// <summary>
    /// A range in which nothing is mapped, with nothing mapped next to it either: far from where the kernel looks for room by itself, so that
    /// it stays free while other threads map memory; a different one each time.
    /// </summary>
    public ulong FreeRange(ulong length)
    {
        ulong room = length + 2 * MiB, at = Map(room, Prot.None, MapFlags.NoReserve, Interlocked.Add(ref s_nextFree, room) - room);
        Unmap(at, room);
        return at + MiB;
    }

    public void Unmap(ulong address, ulong length) => Must(Syscall(Sys.munmap, (long)address, (long)length), "munmap");

    public void Protect(ulong address, ulong length, Prot protection) =>
        Must(Syscall(Sys.mprotect, (long)address, (long)length, (long)protection), "mprotect");

    public long Advise(ulong address, ulong length, Madv advice) => Syscall(Sys.madvise, (long)address, (long)length, (long)advice);

    /// <summary>mremap(2) to a chosen place.</summary>
    public ulong Move(ulong address, ulong length, ulong to) =>
        (ulong)Must(Syscall(Sys.mremap, (long)address, (long)length, (long)length, 3, (long)to), "mremap");

    /// <summary>Fails with address and kind of the first page that is not as it should be.</summary>
    public void AssertContent(ulong address, ulong length, ulong seed, ulong firstPage = 0, ulong step = 1)
    {
        Census seen = Examine(address, length, seed, firstPage, step);
        Assert.True(seen.Good == length / Page, $"process {Pid}, 0x{address:x} + {length} should hold seed {seed}: {seen}");
    }

    /// <summary>
    /// Fails unless the range was taken from the process. One that makes calls of its own may have mapped something else there at once, for a
    /// runtime's new page goes into the first room that is large enough: that must be none of the pages that were there.
    /// </summary>
    public void AssertTaken(ulong address, ulong length, ulong seed, ulong firstPage = 0)
    {
        List<Vma> there = Smaps.Within(Pid, address, length);
        if (!MapsByItself)
        {
            Assert.Empty(there);
            return;
        }
        foreach (Vma vma in there)
        {
            PageRange left = vma.Range.Intersect(new PageRange(address, address + length));
            Census? seen = RemoteContent.Examine(Pid, left.Start, left.Length / Page, seed, firstPage + (left.Start - address) / Page);
            Assert.True(seen is { Good: 0 }, $"process {Pid} still has pages of 0x{address:x} + {length}: {vma}, {seen}");
        }
    }

    public long Must(long result, string what) => result is < 0 and > -4096
        ? throw new InvalidOperationException($"{what} in process {Pid} failed: {(Errno)(-result)}")
        : result;
}
