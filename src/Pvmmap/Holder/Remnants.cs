using Pvmmap.Linux;
using Pvmmap.Procfs;
using Pvmmap.Remote;

namespace Pvmmap.Holder;

/// <summary>
/// What a holder and a guardian, destroyed while the call is being made, have left in the memory of the source: the range, or a page of it, at
/// another place, and mappings of theirs. The source gets back what is its own, and is as it was found. A source that runs, because it is this process,
/// may have mapped something else where they had cleared up already: nothing is touched that is not known by its mark or by the control page's file.
/// </summary>
/// <param name="source">The source.</param>
/// <param name="image">Where the holder's code and stacks are.</param>
/// <param name="mark">What stands in its arguments.</param>
internal sealed unsafe class Remnants(IProcessCalls source, PageRange image, ulong mark)
{
    /// <summary>Clears it. Nobody of ours may run there any more.</summary>
    /// <param name="control">The control page.</param>
    /// <param name="giveBack">The source is to have its range again.</param>
    public void Clear(ControlMapping control, bool giveBack)
    {
        try
        {
            HolderBootArguments arguments;
            bool imageIsThere = Memory.ReadFrom(source.Pid, image.End - HolderLoader.ArgumentsRoom, new Span<byte>(&arguments, sizeof(HolderBootArguments))) == Errno.None
                && arguments.Mark == mark;
            if (imageIsThere) TakeBack(control, giveBack);
            // The control page itself, the places kept, and whatever the one who was killed first had just mapped: the one who cleared up did not know of that.
            foreach (Vma vma in Maps.Read(source.Pid))
                if (control.IsFileOf(vma) && !control.IsAt(vma.Range)) Unmap(vma.Range.Start, vma.Range.Length);
            if (imageIsThere) Unmap(image.Start, image.Length);
        }
        catch (PvmmapException e) when (e.Errno is Errno.ESRCH or Errno.EAGAIN or Errno.EPERM)
        {
            // The source is gone; the first error is the one to report.
        }
    }

    private void TakeBack(ControlMapping control, bool giveBack)
    {
        ref ControlPage page = ref control.Page;
        if (page.ProbeArea != 0 && page.ProbeGuard != 0 && IsOf(control, page.ProbeArea + PageRange.PageSize))
        {
            for (uint i = 0; i < page.Probed; i++)
            {
                ulong at = page.ProbeArea + (2 * i * PageRange.PageSize);
                if (HasArrived(at)) Move(at, control.Segments[(int)i].Destination, PageRange.PageSize);
            }
            Unmap(page.ProbeArea, 2 * page.SegmentCount * PageRange.PageSize);
        }
        if (page.ReservedLength != 0 && IsOf(control, page.ReservedStart))
        {
            if (giveBack) BringBack(ref page);
            Unmap(page.ReservedStart, page.ReservedLength);
        }
    }

    private bool IsOf(ControlMapping control, ulong at) => Maps.Read(source.Pid, new PageRange(at, at + PageRange.PageSize)) is [var vma] && control.IsFileOf(vma);

    // Nothing of it has been delivered: the target has not been let go.
    private void BringBack(ref ControlPage page)
    {
        ulong moved = page.Moved;
        if (page.Moving != 0 && HasArrived(page.SourceStart + moved)) moved += page.Moving;
        ulong piece = moved;
        for (ulong done = 0; done < moved;)
        {
            piece = Math.Min(piece, moved - done);
            // Before Linux 6.17 it takes no more than one VMA.
            if (Move(page.SourceStart + done, page.TakenFrom + done, piece).Failed && piece > PageRange.PageSize)
            {
                piece = ((piece / 2) + PageRange.PageSize - 1) & ~(PageRange.PageSize - 1);
                continue;
            }
            done += piece;
            piece *= 2;
        }
        source.Invoke(SystemCall.SYS_madvise, (long)page.TakenFrom, (long)page.SourceLength, Memory.MADV_DOFORK);
    }

    // MADV_REMOVE knows files only; the places kept are one of them, behind its end.
    private bool HasArrived(ulong page) =>
        source.Invoke(SystemCall.SYS_madvise, (long)page, (long)PageRange.PageSize, Memory.MADV_REMOVE).Errno == Errno.EINVAL;

    private SyscallResult Move(ulong from, ulong to, ulong length) =>
        source.Invoke(SystemCall.SYS_mremap, (long)from, (long)length, (long)length, Memory.MREMAP_MAYMOVE | Memory.MREMAP_FIXED, (long)to);

    private void Unmap(ulong start, ulong length) => source.Invoke(SystemCall.SYS_munmap, (long)start, (long)length);
}
