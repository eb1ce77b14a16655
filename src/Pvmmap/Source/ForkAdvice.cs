using Pvmmap.Linux;
using Pvmmap.Procfs;
using Pvmmap.Remote;

namespace Pvmmap.Source;

/// <summary>
/// Lifts MADV_DONTFORK and MADV_WIPEONFORK from the range for the instant of the fork, keeps large memory that is not in the range out of it, and
/// puts everything back whatever happens.
/// </summary>
internal sealed class ForkAdvice : IDisposable
{
    // Three calls in the source cost about as much as the page tables of so much memory.
    private const ulong WorthWithholding = 32 << 20;
    private const ulong MaximumRange = 1UL << 30;
    private const ulong MostTakenForGranted = 64 << 20;
    private const int MostWithheld = 8;

    private readonly IProcessCalls process;
    private readonly List<(PageRange Range, int Advice, int Undo)> lifted = [];
    private bool? hasMuchElse;

    public ForkAdvice(IProcessCalls process, SourcePlan plan) : this(process, plan.Pieces.Select(piece => (piece.Range, piece.Flags)))
    {
    }

    /// <param name="process">The process about to be forked.</param>
    /// <param name="ranges">What is wanted of it, with the flags of its mappings.</param>
    public ForkAdvice(IProcessCalls process, IEnumerable<(PageRange Range, VmFlags Flags)> ranges)
    {
        this.process = process;
        try
        {
            foreach ((PageRange range, VmFlags flags) in ranges)
            {
                if (flags.HasFlag(VmFlags.DontCopy)) Lift(range, Memory.MADV_DOFORK, Memory.MADV_DONTFORK);
                if (flags.HasFlag(VmFlags.WipeOnFork)) Lift(range, Memory.MADV_KEEPONFORK, Memory.MADV_WIPEONFORK);
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>
    /// A fork copies every page table. What else is large is withheld from it by MADV_DONTFORK, of a process all of whose threads stand still: nobody
    /// else can fork it now. It is no more than a matter of time, so what refuses is left as it is.
    /// </summary>
    public void WithholdTheRest(PageRange range)
    {
        if (range.Length > MaximumRange || !HasMuchElse(range)) return;
        using MapsFile maps = MapsFile.Open(process.Pid);
        List<PageRange> large = [];
        foreach (Vma vma in maps.All)
        {
            // What is shared, or a reservation, has no page tables that a fork would copy.
            if (vma.Shared || vma.IsSpecial || !vma.Protection.HasFlag(Protection.Write)) continue;
            if (!vma.Range.Overlaps(range))
            {
                large.Add(vma.Range);
                continue;
            }
            if (vma.Range.Start < range.Start) large.Add(new PageRange(vma.Range.Start, range.Start));
            if (vma.Range.End > range.End) large.Add(new PageRange(range.End, vma.Range.End));
        }
        foreach (PageRange rest in large.Where(rest => rest.Length >= WorthWithholding).OrderByDescending(rest => rest.Length).Take(MostWithheld - lifted.Count)) Withhold(rest);
    }

    /// <summary>
    /// Whether the process may have much memory besides a range. Cheaper to ask than to look for what is large. A large range may well be empty: so much is taken for granted of it as
    /// is counted quickly.
    /// </summary>
    public bool HasMuchElse(PageRange range) => hasMuchElse ??= MayHaveMuchElse(range);

    private bool MayHaveMuchElse(PageRange range)
    {
        ProcessStatus status = process is StoppedProcess stopped ? stopped.Status : ProcessStatus.ReadThread(process.Pid, process.Pid);
        if (status.RssAnon == 0) return true;
        ulong all = status.RssAnon + status.VmSwap;
        if (all <= Math.Min(range.Length, MostTakenForGranted) + WorthWithholding) return false;
        if (range.Length <= MostTakenForGranted) return true;
        using FileDescriptor pagemap = Files.Open($"/proc/{process.Pid}/pagemap", Files.O_RDONLY);
        return PagemapScan.PopulatedAtLeast(pagemap, range, all - WorthWithholding) < all - WorthWithholding;
    }

    private void Withhold(PageRange rest)
    {
        // If it has that advice already, it is not ours to give back: to lift it from one page would split the VMA.
        if (VmaAt(rest.Start) is not { } before || process.Invoke(SystemCall.SYS_madvise, (long)rest.Start, (long)PageRange.PageSize, Memory.MADV_DOFORK).Failed) return;
        if (VmaAt(rest.Start) != before)
        {
            process.Invoke(SystemCall.SYS_madvise, (long)rest.Start, (long)PageRange.PageSize, Memory.MADV_DONTFORK)
                .OrThrow("give back the advice of a mapping", process.Pid, rest);
            return;
        }
        int undo = process.AddUndo(SystemCall.SYS_madvise, (long)rest.Start, (long)rest.Length, Memory.MADV_DOFORK);
        if (process.Invoke(SystemCall.SYS_madvise, (long)rest.Start, (long)rest.Length, Memory.MADV_DONTFORK).Failed)
        {
            // Perhaps done in part.
            process.Invoke(SystemCall.SYS_madvise, (long)rest.Start, (long)rest.Length, Memory.MADV_DOFORK);
            process.ClearUndo(undo);
            return;
        }
        lifted.Add((rest, Memory.MADV_DOFORK, undo));
    }

    private PageRange? VmaAt(ulong address)
    {
        using MapsFile maps = MapsFile.Open(process.Pid);
        return maps.FindRangeFrom(address);
    }

    private void Lift(PageRange range, int lift, int restore)
    {
        int undo = process.AddUndo(SystemCall.SYS_madvise, (long)range.Start, (long)range.Length, restore);
        lifted.Add((range, restore, undo));
        SyscallResult done = process.Invoke(SystemCall.SYS_madvise, (long)range.Start, (long)range.Length, lift);
        if (done.Failed) Rejoin(range.Start, lift, restore);
        // madvise(2) says EAGAIN for it.
        if (done.Errno == Errno.EAGAIN) done = new SyscallResult(-(long)Errno.ENOMEM);
        done.OrThrow("let the fork see the range", process.Pid, range, done.Errno == Errno.ENOMEM ? "the source's map count does not allow it" : null);
    }

    // Refused at the second end (vm.max_map_count), a VMA stays cut at the first: advice to the whole rest joins it again, where nobody can fork meanwhile.
    private void Rejoin(ulong start, int lift, int restore)
    {
        if (process is OwnProcess || VmaAt(start) is not { } rest || rest.Start != start) return;
        process.Invoke(SystemCall.SYS_madvise, (long)rest.Start, (long)rest.Length, lift);
        process.Invoke(SystemCall.SYS_madvise, (long)rest.Start, (long)rest.Length, restore);
    }

    public void Dispose()
    {
        foreach ((PageRange range, int advice, int undo) in lifted)
        {
            process.Invoke(SystemCall.SYS_madvise, (long)range.Start, (long)range.Length, advice);
            process.ClearUndo(undo);
        }
        lifted.Clear();
    }
}
