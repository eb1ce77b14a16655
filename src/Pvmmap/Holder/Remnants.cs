using Pvmmap.Linux;
using Pvmmap.Remote;

namespace Pvmmap.Holder;

/// <summary>
/// What a holder and a guardian, destroyed together while the call is being made, have left in the memory of a source that still stands still: the
/// range, or a page of it, at another place, and mappings of theirs. The source gets back what is its own, and is as it was found.
/// </summary>
/// <param name="source">The source.</param>
/// <param name="image">Where the holder's code and stacks are.</param>
internal sealed unsafe class Remnants(StoppedProcess source, PageRange image)
{
    /// <summary>Clears it. Nobody of ours may run there any more. What is cleared already does no harm: nothing else is mapped there meanwhile.</summary>
    public void Clear(ControlMapping control)
    {
        try
        {
            HolderBootArguments arguments;
            source.Read(image.End - HolderProcess.ArgumentsRoom, new Span<byte>(&arguments, sizeof(HolderBootArguments)));
            if (arguments.Control != 0) Clear(control, arguments.Control);
            Unmap(image.Start, image.Length);
        }
        catch (PvmmapException e) when (e.Errno is Errno.ESRCH or Errno.EAGAIN or Errno.EFAULT)
        {
            // The source is gone, or they had cleared it all; the first error is the one to report.
        }
    }

    private void Clear(ControlMapping control, ulong mapped)
    {
        ref ControlPage page = ref control.Page;
        if (page.ProbeArea != 0 && page.ProbeGuard != 0)
        {
            for (uint i = 0; i < page.Probed; i++)
            {
                ulong at = page.ProbeArea + (2 * i * PageRange.PageSize);
                if (HasArrived(at)) Move(at, control.Segments[(int)i].Destination, PageRange.PageSize);
            }
            Unmap(page.ProbeArea, 2 * page.SegmentCount * PageRange.PageSize);
        }
        if (page.Moved < page.SourceLength) BringBack(ref page);
        if (page.ReservedLength != 0) Unmap(page.ReservedStart, page.ReservedLength);
        Unmap(mapped, ControlPage.Size);
    }

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
