using System.Runtime.InteropServices;
using Pvmmap.Holder;
using Pvmmap.Linux;
using Pvmmap.Procfs;
using Pvmmap.Remote;
using Pvmmap.Source;

namespace Pvmmap.Target;

/// <summary>Writes pages into a region before anybody sees it: those that no userfaultfd can deliver.</summary>
internal static class PlainCopy
{
    private const int BatchPages = 512;
    private const int Page = (int)PageRange.PageSize;

    /// <summary>
    /// Fills the anonymous memory of a region that cannot be guarded by a userfaultfd. Pages that hold nothing but zeros stay untouched, guard pages
    /// become guard pages.
    /// </summary>
    /// <returns>Bytes written.</returns>
    public static ulong Fill(HolderProcess holder, int sourcePid, SourcePlan plan, IProcessCalls target, Region region)
    {
        ulong done = 0;
        foreach (PageRange run in plan.AnonymousRuns)
        {
            using Original original = new(holder.Pid, sourcePid);
            done += Copy(original, run, target, region.At(run).Start, entry => true, skipZeros: true);
        }
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
            using Original original = Owner(holder, sourcePid, piece);
            done += Copy(original, piece.Range, target, region.At(piece.Range).Start, IsChanged, skipZeros: piece.Kind == MemoryKind.PrivateHugePages);
        }
        return done;
    }

    /// <summary>Whether the source has pages of its own in a piece.</summary>
    public static bool HasChanged(HolderProcess holder, int sourcePid, SourcePiece piece)
    {
        using Original original = Owner(holder, sourcePid, piece);
        ulong[] entries = new ulong[BatchPages];
        for (ulong at = piece.Range.Start; at < piece.Range.End; at += BatchPages * PageRange.PageSize)
        {
            foreach (ulong entry in original.Entries(at, piece.Range.End, entries))
            {
                if (IsPopulated(new PagemapEntry(entry)) && IsChanged(new PagemapEntry(entry))) return true;
            }
        }
        return false;
    }

    private static Original Owner(HolderProcess holder, int sourcePid, SourcePiece piece) =>
        new(piece.MustStandStill ? sourcePid : holder.Pid, sourcePid);

    private static bool IsPopulated(PagemapEntry entry) => entry.Present || entry.Swapped;

    private static bool IsChanged(PagemapEntry entry) => !entry.FileOrShared;

    private static ulong Copy(Original original, PageRange range, IProcessCalls target, ulong destination, Func<PagemapEntry, bool> isWanted, bool skipZeros)
    {
        ulong[] entries = new ulong[BatchPages];
        byte[] content = new byte[Page];
        ulong done = 0;
        for (ulong batch = range.Start; batch < range.End; batch += BatchPages * PageRange.PageSize)
        {
            ulong address = batch;
            foreach (ulong value in original.Entries(batch, range.End, entries))
            {
                PagemapEntry entry = new(value);
                if (entry.Guard)
                {
                    // Nobody reads it there, nor here: not a page of the file, and no zeros.
                    if (target.Invoke(SystemCall.SYS_madvise, (long)(destination + (address - range.Start)), Page, Memory.MADV_GUARD_INSTALL).Failed)
                        throw original.Explain(address);
                }
                else if (IsPopulated(entry) && isWanted(entry))
                {
                    original.ReadPage(content, address);
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

    /// <summary>The process that has the pages as they are to be: the holder, or the source while it stands still.</summary>
    private sealed class Original(int pid, int sourcePid) : IDisposable
    {
        private readonly ProcFile memory = Open(pid, pid != sourcePid, "mem");
        private readonly ProcFile pagemap = Open(pid, pid != sourcePid, "pagemap");

        /// <summary>What pagemap says of the pages from <paramref name="start"/> on, up to the end or as many as there is room for.</summary>
        public Span<ulong> Entries(ulong start, ulong end, ulong[] room)
        {
            Span<ulong> entries = room.AsSpan(0, (int)Math.Min((ulong)room.Length, (end - start) / PageRange.PageSize));
            Span<byte> bytes = MemoryMarshal.AsBytes(entries);
            for (int length = 0; length < bytes.Length;)
            {
                int got = pagemap.Read(bytes[length..], (start / PageRange.PageSize * sizeof(ulong)) + (ulong)length);
                if (got == 0) throw Gone();
                length += got;
            }
            return entries;
        }

        /// <summary>Reads a page; mem, unlike process_vm_readv, also reads what the source had protected against itself.</summary>
        public void ReadPage(Span<byte> page, ulong address)
        {
            int got;
            try
            {
                got = memory.Read(page, address);
            }
            catch (PvmmapException e) when (e.Errno is Errno.EIO or Errno.EFAULT)
            {
                throw Explain(address);
            }
            // Of a process that has ended the memory is empty.
            if (got != page.Length) throw Gone();
        }

        /// <summary>Why a page cannot be copied, by the mapping of the source that it is in.</summary>
        public PvmmapException Explain(ulong address)
        {
            PageRange page = new(address, address + PageRange.PageSize);
            string mapping = Maps.Read(pid, page) is [Vma vma, ..] ? $"{vma}: " : "";
            return new PvmmapException(Errno.EFAULT, "copy the range", sourcePid, page,
                $"{mapping}nobody can read this page: a guard page, or lost to a memory error; take what lies before and behind it");
        }

        private PvmmapException Gone() => Gone(pid, pid != sourcePid);

        private static PvmmapException Gone(int pid, bool isHolder) =>
            new(isHolder ? Errno.EAGAIN : Errno.ESRCH, "copy the range", pid, hint: isHolder ? "the process that held the pages was killed" : "the source has ended");

        private static ProcFile Open(int pid, bool isHolder, string name)
        {
            try
            {
                return ProcFile.Open(pid, name);
            }
            catch (PvmmapException e) when (e.Errno == Errno.ESRCH)
            {
                throw Gone(pid, isHolder);
            }
        }

        public void Dispose()
        {
            memory.Dispose();
            pagemap.Dispose();
        }
    }
}
