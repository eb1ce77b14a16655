using Pvmmap.Holder.Freestanding;

namespace Pvmmap.Tests.Holder;

// What the threads of the targets do.
internal sealed unsafe partial class FakeKernel
{
    private long nextContent = 1_000_000;

    /// <summary>In percent: how often something happens at a system call of the holder.</summary>
    public int Activity { get; set; } = 30;

    /// <summary>Regions may grow, in place or with mremap().</summary>
    public bool MayGrow { get; set; } = true;

    private void LetTargetsRun()
    {
        foreach (FakeTarget target in Targets) FinishEvents(target);
        if (IsMove) LetCallGoOn();
        while (IsRegionKnown && ActionsLeft > 0 && Dice.Chance(Activity))
        {
            FakeTarget target = Targets[Dice.Below(Targets.Count)];
            ActionsLeft--;
            if (target is { Alive: true, Running: true, Pages.Count: > 0 }) Act(target);
        }
    }

    private void FinishEvents(FakeTarget target)
    {
        for (int i = target.Dropping.Count - 1; i >= 0; i--)
        {
            FakeEvent happened = target.Dropping[i];
            if (--happened.Delay > 0) continue;
            target.Dropping.RemoveAt(i);
            Drop(target, happened);
        }
        for (int i = target.Leaving.Count - 1; i >= 0; i--)
        {
            FakeEvent happened = target.Leaving[i];
            if (--happened.Delay > 0) continue;
            target.Leaving.RemoveAt(i);
            Finish(target, happened);
        }
    }

    // The thread goes on when its event has been read. MADV_DONTNEED lets copies in again before it takes the pages, and may be kept from that by
    // others on its processor; not so long that the holder of a move had taken its range meanwhile.
    private void Finish(FakeTarget target, FakeEvent happened)
    {
        if (happened.Kind == Userfaultfd.EventRemove)
        {
            happened.Delay = happened.Announces || Dice.Chance(90) ? Dice.Below(3) : Dice.Below(60);
            target.Dropping.Add(happened);
            return;
        }
        if (happened.Child is { } child) child.Running = true;
        if (happened.Then is { } next)
        {
            target.Untold.Remove(next);
            target.Events.Enqueue(next);
        }
        else happened.Thread.InEvent = false;
    }

    private static void Drop(FakeTarget target, FakeEvent happened)
    {
        happened.Thread.InEvent = false;
        for (ulong at = happened.From; at < happened.To; at += PageSize)
        {
            if (!target.Pages.TryGetValue(at, out TargetPage? page)) continue;
            page.State = PageState.Missing;
            // The page that tells of a move is dropped before anybody knows of it.
            if (!happened.Announces) page.Expected = 0;
        }
    }

    private void Act(FakeTarget target)
    {
        FakeThread? thread = target.Threads.FirstOrDefault(thread => thread.IsIdle);
        if (thread is null) return;
        int what = Dice.Below(100);
        bool removing = target.Events.Concat(target.Leaving).Concat(target.Dropping).Any(happened => happened.Kind == Userfaultfd.EventRemove);
        if (what < 60) Touch(target, thread, RandomPage(target), write: Dice.Chance(30));
        else if (what < 66) Split(target);
        else if (what < 68 && MayGrow) GrowInPlace(target);
        else if (what < 70) Die(target);
        // A program that drops pages while another thread of it moves them gets one or the other: not tested.
        else if (removing) return;
        else if (what < 77) Unmap(target, thread);
        else if (what < 85) Remove(target, thread);
        else if (what < 93) Remap(target, thread);
        // The child has what another thread was moving just then at the new place, of which only the parent's events tell: docs/limits.md.
        else if (Forks > 0 && target.Untold.Count == 0) Fork(target, thread);
    }

    private ulong RandomPage(FakeTarget target) => target.Pages.Keys.ElementAt(Dice.Below(target.Pages.Count));

    // A run of pages without holes; it may span several VMAs.
    private (ulong Start, ulong End) RandomRun(FakeTarget target)
    {
        ulong start = RandomPage(target), end = start;
        int length = 1 + Dice.Below(Dice.Chance(30) ? Source.Length + 1 : 8);
        while (length-- > 0 && target.Pages.ContainsKey(end)) end += PageSize;
        return (start, end);
    }

    public void Touch(FakeTarget target, FakeThread thread, ulong at, bool write)
    {
        thread.Write = write;
        Access(target, thread, at);
    }

    private void Access(FakeTarget target, FakeThread thread, ulong at)
    {
        thread.Fault = null;
        if (!target.Pages.TryGetValue(at, out TargetPage? page)) return;
        if (page.State == PageState.Missing && !target.Released)
        {
            thread.Fault = at;
            thread.Reported = false;
            return;
        }
        Check(target, at, page);
        if (thread.Write && page.State != PageState.Poisoned)
        {
            page.State = PageState.Present;
            page.Content = page.Expected = nextContent++;
            page.MayBeZero = page.MayBeZero && (target.Changing || target.Dropping.Count != 0);
        }
        OnTouched(target, thread);
    }

    private void Wake(FakeTarget target, ulong start, ulong length)
    {
        foreach (FakeThread thread in target.Threads)
        {
            if (thread.Fault is { } at && thread.Reported && at >= start && at < start + length) Access(target, thread, at);
        }
    }

    /// <summary>Throws unless the page reads as it has to.</summary>
    public void Check(FakeTarget target, ulong at, TargetPage page)
    {
        if (page.State == PageState.Poisoned)
        {
            if (!page.MayBePoisoned && !SourceIsGone && !SourceMayBeLost) throw new InvalidOperationException($"{at:x} of {target.Descriptor} is poisoned");
            return;
        }
        long read = page.State == PageState.Present ? page.Content : 0;
        if (read != page.Expected && !(read == 0 && page.MayBeZero))
            throw new InvalidOperationException($"{at:x} of {target.Descriptor} reads {read} instead of {page.Expected}");
    }

    private static void Send(FakeTarget target, FakeEvent happened)
    {
        happened.Thread.InEvent = true;
        target.Events.Enqueue(happened);
    }

    private void Unmap(FakeTarget target, FakeThread thread)
    {
        (ulong start, ulong end) = RandomRun(target);
        if (IsUntold(target, start, end)) return;
        UnmapRange(target, thread, start, end);
    }

    public void UnmapRange(FakeTarget target, FakeThread thread, ulong start, ulong end)
    {
        Send(target, TakeAway(target, thread, start, end));
    }

    private FakeEvent TakeAway(FakeTarget target, FakeThread thread, ulong start, ulong end)
    {
        int after = nextVma++;
        if (target.Pages.TryGetValue(end, out TargetPage? behind)) Renumber(target, end, behind.Vma, after);
        for (ulong at = start; at < end; at += PageSize) target.Pages.Remove(at);
        return new FakeEvent { Kind = Userfaultfd.EventUnmap, Thread = thread, From = start, To = end };
    }

    // Nobody but the thread that waits in mremap() knows yet of the new place, and what has come to the old one since stays there meanwhile: docs/limits.md.
    private static bool IsUntold(FakeTarget target, ulong start, ulong end) => target.Untold.Exists(
        moved => (start < moved.To + moved.Length && moved.To < end) || (start < moved.From + moved.Length && moved.From < end));

    private void Remove(FakeTarget target, FakeThread thread)
    {
        (ulong start, ulong end) = RandomRun(target);
        if (IsUntold(target, start, end)) return;
        RemoveRange(target, thread, start, end);
    }

    public void RemoveRange(FakeTarget target, FakeThread thread, ulong start, ulong end)
    {
        for (ulong at = start; at < end; at += PageSize) target.Pages[at].MayBeZero = true;
        Send(target, new FakeEvent { Kind = Userfaultfd.EventRemove, Thread = thread, From = start, To = end });
    }

    private void Remap(FakeTarget target, FakeThread thread)
    {
        (ulong start, ulong end) = RandomRun(target);
        // mremap() takes pages of one VMA.
        int vma = target.Pages[start].Vma;
        while (target.Pages[end - PageSize].Vma != vma) end -= PageSize;
        bool keep = Dice.Chance(20);
        int grow = MayGrow && !keep && Dice.Chance(25) ? 1 + Dice.Below(5) : 0;
        int length = (int)((end - start) / PageSize);
        ulong to = Dice.Chance(40) ? PlaceAgain(target, length + grow) : Reserve(length + grow);
        (ulong other, ulong otherEnd) = RandomRun(target);
        // What MREMAP_DONTUNMAP has left is not told from what is only not unmapped yet, and of a child, or when the tables were full, nothing is parked: docs/limits.md.
        bool left = Enumerable.Range(0, length).Any(i => target.Pages[start + (ulong)i * PageSize].IsLeft);
        if (!left && target == Targets[0] && !SourceMayBeLost && Dice.Chance(30) && otherEnd - other >= (ulong)(length + grow) * PageSize && (other >= end || otherEnd <= start)
            && !IsUntold(target, other, otherEnd))
            to = other;
        if (IsUntold(target, start, end)) return;
        RemapRange(target, thread, start, length, to, keep, grow);
    }

    public void RemapRange(FakeTarget target, FakeThread thread, ulong start, int length, ulong to, bool keep = false, int grow = 0)
    {
        ulong end = start + (ulong)length * PageSize, toEnd = to + (ulong)(length + grow) * PageSize;
        int moved = nextVma++, after = nextVma++;
        FakeEvent? first = target.Pages.ContainsKey(to) ? TakeAway(target, thread, to, toEnd) : null;
        if (!keep && target.Pages.TryGetValue(end, out TargetPage? behind)) Renumber(target, end, behind.Vma, after);
        for (int i = 0; i < length; i++)
        {
            target.Pages.Remove(start + (ulong)i * PageSize, out TargetPage? page);
            int old = page!.Vma;
            page.Vma = moved;
            target.Pages[to + (ulong)i * PageSize] = page;
            // MREMAP_DONTUNMAP: the old VMA stays, registered and empty.
            if (keep) target.Pages[start + (ulong)i * PageSize] = new TargetPage { Vma = old, IsLeft = true };
        }
        for (int i = length; i < length + grow; i++) target.Pages[to + (ulong)i * PageSize] = new TargetPage { Vma = moved, MayBePoisoned = true };
        FakeEvent told = new()
        {
            Kind = Userfaultfd.EventRemap, Thread = thread, From = start, To = to, Length = (ulong)length * PageSize,
            Then = keep ? null : new FakeEvent { Kind = Userfaultfd.EventUnmap, Thread = thread, From = start, To = end },
        };
        if (first is not null)
        {
            first.Then = told;
            target.Untold.Add(told);
        }
        Send(target, first ?? told);
    }

    // An address where something was before, if nothing is there now.
    private ulong PlaceAgain(FakeTarget target, int pages)
    {
        ulong at = FirstDestination + (ulong)Dice.Below(Source.Length + 8) * PageSize;
        for (int i = 0; i < pages; i++)
        {
            if (target.Pages.ContainsKey(at + (ulong)i * PageSize)) return Reserve(pages);
        }
        return at;
    }

    private void Split(FakeTarget target)
    {
        ulong at = RandomPage(target);
        Renumber(target, at, target.Pages[at].Vma, nextVma++);
    }

    // What lies from here on in the old VMA becomes a VMA of its own.
    private static void Renumber(FakeTarget target, ulong at, int old, int vma)
    {
        for (; target.Pages.TryGetValue(at, out TargetPage? page) && page.Vma == old; at += PageSize) page.Vma = vma;
    }

    // No event tells of it: pages that a mprotect() cuts off before they are touched may be poisoned.
    private void GrowInPlace(FakeTarget target)
    {
        ulong at = RandomPage(target);
        int vma = target.Pages[at].Vma;
        while (target.Pages.ContainsKey(at)) at += PageSize;
        if (target.Pages[at - PageSize].Vma == vma) target.Pages[at] = new TargetPage { Vma = vma, MayBePoisoned = true };
    }

    public static void Die(FakeTarget target)
    {
        target.Alive = false;
        foreach (FakeEvent happened in target.Events)
        {
            if (happened.Child is { } child) child.Alive = false;
        }
        target.Events.Clear();
        target.Leaving.Clear();
        target.Untold.Clear();
        target.Dropping.Clear();
        foreach (FakeThread thread in target.Threads)
        {
            thread.Fault = null;
            thread.InEvent = true;
        }
    }

    public void EndAllTargets()
    {
        foreach (FakeTarget target in Targets) Die(target);
    }

    private void Fork(FakeTarget target, FakeThread thread)
    {
        Forks--;
        ForkNow(target, thread);
    }

    public FakeTarget ForkNow(FakeTarget target, FakeThread thread)
    {
        FakeTarget child = new() { Running = false };
        foreach ((ulong at, TargetPage page) in target.Pages) child.Pages[at] = page.Copy();
        Targets.Add(child);
        Send(target, new FakeEvent { Kind = Userfaultfd.EventFork, Thread = thread, Child = child });
        return child;
    }

    /// <summary>The holder or guardian is gone and its userfaultfds with it: what is missing is ordinary memory now.</summary>
    public void CheckAllAfterRelease()
    {
        foreach (FakeTarget target in Targets.Where(target => target.Alive))
        {
            target.Released = true;
            while (target.Events.TryDequeue(out FakeEvent? happened)) Finish(target, happened);
            foreach (FakeEvent happened in target.Leaving) Finish(target, happened);
            foreach (FakeEvent happened in target.Dropping) Drop(target, happened);
            foreach ((ulong at, TargetPage page) in target.Pages) Check(target, at, page);
        }
    }
}
