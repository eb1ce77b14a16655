using Pvmmap.Linux;
using Pvmmap.Procfs;

namespace Pvmmap.Snapshots;

/// <summary>
/// Content that a fork does not keep, copied to this process while the captured one stands still, and put into the keeper when that goes on: shared
/// memory, huge pages of the pool, what advice withholds from a fork.
/// </summary>
internal sealed unsafe class SnapshotStash(int pid) : IDisposable
{
    private const ulong Chunk = 1 << 20;

    private readonly List<(PageRange Range, ulong At)> pieces = [];
    private readonly List<(ulong Start, ulong Length)> rooms = [];
    private readonly List<PageRange> unreadable = [];
    private readonly Dictionary<PageRange, List<PageRange>> planned = [];

    /// <summary>Pages that could not be read.</summary>
    public IReadOnlyList<PageRange> Unreadable => unreadable;

    /// <summary>Copies what a mapping has in it; of a shared one what has been planned.</summary>
    /// <param name="area">The mapping.</param>
    /// <param name="parts">What is wanted of it.</param>
    /// <param name="file">Of shared memory: the object, so that what nobody has touched is not touched now; null if it cannot be opened.</param>
    /// <param name="pagemap">The process's.</param>
    public void Take(SnapshotArea area, IEnumerable<PageRange> parts, FileDescriptor? file, FileDescriptor pagemap)
    {
        foreach (PageRange part in parts)
        {
            List<PageRange> content = area.Vma.Shared ? planned[part] : area.IsPrivateFile ? [part] : InPages(part, pagemap, filesToo: area.IsPrivateHugePages);
            ulong length = content.Aggregate(0UL, (sum, run) => sum + run.Length);
            if (length == 0) continue;
            ulong room = (ulong)Memory.Map(0, length, Memory.PROT_READ | Memory.PROT_WRITE, Memory.MAP_PRIVATE | Memory.MAP_ANONYMOUS | Memory.MAP_NORESERVE)
                .OrThrow("take a snapshot", pid, part);
            rooms.Add((room, length));
            foreach (PageRange run in content)
            {
                Copy(area.Vma, run, file, room);
                room += run.Length;
            }
        }
    }

    /// <summary>Finds out what <see cref="Take"/> is to copy of a shared mapping.</summary>
    /// <param name="vma">The mapping.</param>
    /// <param name="part">What is wanted of it.</param>
    /// <param name="file">The object; null if it cannot be opened.</param>
    /// <returns>Bytes.</returns>
    public ulong Plan(Vma vma, PageRange part, FileDescriptor? file)
    {
        List<PageRange> content = InObject(vma, part, file);
        planned[part] = content;
        return content.Aggregate(0UL, (sum, run) => sum + run.Length);
    }

    /// <summary>Writes it to where it was, in a process that has room there.</summary>
    public void Put(int keeper)
    {
        foreach ((PageRange range, ulong at) in pieces)
        {
            for (ulong done = 0; done < range.Length; done += Chunk)
            {
                int length = (int)Math.Min(Chunk, range.Length - done);
                Errno errno = Memory.WriteTo(keeper, range.Start + done, new ReadOnlySpan<byte>((void*)(at + done), length));
                if (errno != Errno.None) throw new PvmmapException(errno == Errno.ESRCH ? Errno.EAGAIN : errno, "fill the snapshot's keeper", keeper, range);
            }
        }
    }

    private List<PageRange> InPages(PageRange part, FileDescriptor pagemap, bool filesToo)
    {
        List<PageRange> content = [];
        PagemapScan.Populated(pagemap, part, filesToo, content).OrThrow("read pagemap", pid, part);
        return content;
    }

    // Where the object has data; what lies behind its end raises SIGBUS.
    private List<PageRange> InObject(Vma vma, PageRange part, FileDescriptor? file)
    {
        if (file is null) return [part];
        List<PageRange> content = [];
        SyscallResult size = Files.Seek(file, 0, Files.SEEK_END);
        ulong first = vma.Offset + (part.Start - vma.Range.Start), end = first + part.Length;
        if (!size.Failed && PageAligned((ulong)size.Value) < end)
        {
            end = Math.Max(PageAligned((ulong)size.Value), first);
            unreadable.Add(new PageRange(part.Start + (end - first), part.End));
        }
        for (ulong at = first; at < end;)
        {
            SyscallResult data = Files.Seek(file, at, Files.SEEK_DATA);
            if (data.Errno == Errno.ENXIO) break;
            // No such thing in this file system: all of it.
            ulong start = data.Failed ? at : (ulong)data.Value & ~(PageRange.PageSize - 1);
            if (start >= end) break;
            SyscallResult hole = data.Failed ? data : Files.Seek(file, Math.Max(start, at), Files.SEEK_HOLE);
            ulong stop = hole.Failed ? end : Math.Min(PageAligned((ulong)hole.Value), end);
            content.Add(new PageRange(part.Start + (start - first), part.Start + (stop - first)));
            at = stop;
        }
        return content;
    }

    private static ulong PageAligned(ulong bytes) => (bytes + PageRange.PageSize - 1) & ~(PageRange.PageSize - 1);

    private void Copy(Vma vma, PageRange run, FileDescriptor? file, ulong to)
    {
        pieces.Add((run, to));
        for (ulong done = 0; done < run.Length;)
        {
            Span<byte> room = new((void*)(to + done), (int)Math.Min(Chunk, run.Length - done));
            ulong address = run.Start + done;
            int got = 0;
            if (vma.Shared && file is not null)
            {
                SyscallResult read = Files.Read(file, room, vma.Offset + (address - vma.Range.Start));
                if (!read.Failed) got = (int)read.Value;
                // A file that ends within its last page: the rest of that page is zeros for the process too.
                ulong rest = PageAligned(done) - done;
                if (got == 0 && rest != 0)
                {
                    done += rest;
                    continue;
                }
            }
            if (got == 0) got = Memory.ReadUpTo(pid, address, room);
            done += (ulong)got;
            if (got > 0) continue;
            unreadable.Add(new PageRange(address, address + PageRange.PageSize));
            done += PageRange.PageSize;
        }
    }

    public void Dispose()
    {
        foreach ((ulong start, ulong length) in rooms) Memory.Unmap(start, length);
        rooms.Clear();
        pieces.Clear();
    }
}
