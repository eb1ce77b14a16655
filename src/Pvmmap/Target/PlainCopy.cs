using System.Globalization;
using System.Runtime.InteropServices;
using Pvmmap.Holder;
using Pvmmap.Procfs;
using Pvmmap.Remote;
using Pvmmap.Source;

namespace Pvmmap.Target;

/// <summary>Writes pages into a region before anybody sees it: those that no userfaultfd can deliver.</summary>
internal static class PlainCopy
{
    private const int BatchPages = 512;
    private const int Page = (int)PageRange.PageSize;

    /// <summary>Fills the anonymous memory of a region that cannot be guarded by a userfaultfd. Pages that hold nothing but zeros stay untouched.</summary>
    /// <returns>Bytes written.</returns>
    public static ulong Fill(HolderProcess holder, SourcePlan plan, IProcessCalls target, Region region)
    {
        ulong done = 0;
        foreach (PageRange run in plan.AnonymousRuns)
            done += Copy(holder.Pid, run, target, region.At(run).Start, entry => true, skipZeros: true);
        return done;
    }

    /// <summary>Writes what the source has changed of the files that it has mapped private, and its own huge pages.</summary>
    /// <param name="holder">It has the pages as they were at the cut.</param>
    /// <param name="sourcePid">The source, which has them still if it has to stand still.</param>
    /// <param name="plan">What lies in the range.</param>
    /// <param name="target">Who has the region.</param>
    /// <param name="region">Mapped, and writable where pages are to be written.</param>
    /// <returns>Bytes written.</returns>
    public static ulong WriteChanged(HolderProcess holder, int sourcePid, SourcePlan plan, IProcessCalls target, Region region)
    {
        ulong done = 0;
        foreach (SourcePiece piece in plan.Pieces)
        {
            if (piece.Kind is not (MemoryKind.PrivateFile or MemoryKind.PrivateHugePages)) continue;
            // A page of a file may well be overwritten with zeros.
            done += Copy(Owner(holder, sourcePid, piece), piece.Range, target, region.At(piece.Range).Start, IsChanged, skipZeros: piece.Kind == MemoryKind.PrivateHugePages);
        }
        return done;
    }

    /// <summary>Whether the source has pages of its own in a piece.</summary>
    public static bool HasChanged(HolderProcess holder, int sourcePid, SourcePiece piece)
    {
        using FileStream pagemap = Open(Owner(holder, sourcePid, piece), "pagemap");
        ulong[] entries = new ulong[BatchPages];
        for (ulong at = piece.Range.Start; at < piece.Range.End; at += BatchPages * PageRange.PageSize)
        {
            foreach (ulong entry in Read(pagemap, at, piece.Range.End, entries))
            {
                if (IsPopulated(new PagemapEntry(entry)) && IsChanged(new PagemapEntry(entry))) return true;
            }
        }
        return false;
    }

    private static int Owner(HolderProcess holder, int sourcePid, SourcePiece piece) => piece.MustStandStill ? sourcePid : holder.Pid;

    private static bool IsPopulated(PagemapEntry entry) => entry.Present || entry.Swapped;

    private static bool IsChanged(PagemapEntry entry) => !entry.FileOrShared;

    private static ulong Copy(int pid, PageRange range, IProcessCalls target, ulong destination, Func<PagemapEntry, bool> isWanted, bool skipZeros)
    {
        using FileStream memory = Open(pid, "mem"), pagemap = Open(pid, "pagemap");
        ulong[] entries = new ulong[BatchPages];
        byte[] content = new byte[Page];
        ulong done = 0;
        for (ulong batch = range.Start; batch < range.End; batch += BatchPages * PageRange.PageSize)
        {
            ulong address = batch;
            foreach (ulong value in Read(pagemap, batch, range.End, entries))
            {
                PagemapEntry entry = new(value);
                if (IsPopulated(entry) && isWanted(entry))
                {
                    // mem, unlike process_vm_readv, also reads what the source had protected against itself.
                    memory.Position = (long)address;
                    ReadPage(memory, content, pid, address);
                    if (!skipZeros || content.AsSpan().ContainsAnyExcept((byte)0))
                    {
                        target.Write(destination + (address - range.Start), content);
                        done += PageRange.PageSize;
                    }
                }
                address += PageRange.PageSize;
            }
        }
        return done;
    }

    private static Span<ulong> Read(FileStream pagemap, ulong start, ulong end, ulong[] entries)
    {
        int pages = (int)Math.Min((ulong)entries.Length, (end - start) / PageRange.PageSize);
        Span<ulong> read = entries.AsSpan(0, pages);
        pagemap.Position = (long)(start / PageRange.PageSize * sizeof(ulong));
        pagemap.ReadExactly(MemoryMarshal.AsBytes(read));
        return read;
    }

    private static void ReadPage(FileStream memory, Span<byte> page, int pid, ulong address)
    {
        try
        {
            memory.ReadExactly(page);
        }
        catch (IOException)
        {
            throw new PvmmapException(Errno.EFAULT, "copy the range", pid, new PageRange(address, address + PageRange.PageSize),
                "a page there cannot be read: a guard page, or broken memory");
        }
    }

    private static FileStream Open(int pid, string name) =>
        new(string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/{name}"), FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
}
