using System.Runtime.InteropServices;
using System.Text;
using Pvmmap.Holder;
using Pvmmap.Holder.Freestanding;

namespace Pvmmap.Tests.Holder;

// A move: the memory that holder, guardian and source share, and the call that hands the range over.
internal sealed unsafe partial class FakeKernel
{
    public const ulong TakenFrom = 0x30_0000_0000;
    private const ulong ImageStart = 0x20_0000_0000;
    private const ulong ImageLength = 0x10_0000;
    private const int SourcePid = 400, HolderPid = 500, GuardianPid = 501, StrangerPid = 600;
    private const int OwnMapsFile = 100;

    private readonly Queue<(ulong From, ulong To, ulong Length)> piecesToPlace = new();
    private FakeThread? placing;
    private bool isTaken, isSourceExecuting, isSocketClosed;
    private byte[]? maps;
    private int mapsRead;
    private bool directoryRead;

    public bool IsMove => Control->Move != 0;

    /// <summary>Linux 6.17: mremap() takes several VMAs, one after another; what has moved stays moved if a later one fails.</summary>
    public bool MovesSeveralVmas { get; set; } = true;

    /// <summary>In percent: how often mremap() finds no memory for a page table.</summary>
    public int MemoryShortage { get; set; }

    /// <summary>The caller may be killed at any time, or else it waits until the region is in place.</summary>
    public bool CallerMayDie { get; set; }

    /// <summary>Somebody (a child by vfork()) uses the memory when the source has left.</summary>
    public bool HasStranger { get; set; }

    public bool HasSourceExited { get; set; }

    /// <summary>The source may exit, or begin another program, at any time.</summary>
    public bool SourceMayLeave { get; set; } = true;

    /// <summary>The target has not been told to take the region yet if false.</summary>
    public bool MayTake { get; set; } = true;

    /// <summary>The target, or its caller, may give up before the region is taken.</summary>
    public bool MayBeGivenUp { get; set; } = true;

    /// <summary>The call was given up, or its target died, before the region was taken.</summary>
    public bool IsGivenUp { get; private set; }

    public bool IsHolderDead { get; set; }

    public bool IsGuardianDead { get; private set; }

    /// <summary>How often a process slept.</summary>
    public long Sleeps { get; private set; }

    /// <summary>The source lets go of its memory: all but what is shared with holder and guardian.</summary>
    public bool IsSourceReleased { get; private set; }

    /// <summary>All is ready for the target to take the region, in so many pieces; in no piece if it was built in place.</summary>
    public void PrepareMove(int pieces)
    {
        FakeTarget target = Targets[0];
        ulong at = target.Pages.Keys.First(), length = Control->SourceLength;
        Control->Move = 1;
        Control->TakenFrom = TakenFrom;
        Control->ReservedStart = SourceStart - PageSize;
        Control->ReservedLength = length + 2 * PageSize;
        Control->ImageStart = ImageStart;
        Control->ImageLength = ImageLength;
        Control->SourceOwnPid = SourcePid;
        Control->HolderOwnPid = HolderPid;
        Control->GuardianPid = GuardianPid;
        Control->CallIsOpen = 1;
        Control->PlacedAt = at;
        Control->DestinationStart = pieces == 0 ? at : Reserve(Source.Length);
        ulong step = (ulong)((Source.Length + pieces - 1) / Math.Max(pieces, 1)) * PageSize;
        for (ulong done = 0; pieces != 0 && done < length; done += step)
            piecesToPlace.Enqueue((at + done, Control->DestinationStart + done, Math.Min(step, length - done)));
    }

    // What the call and the source do at a system call of the holder.
    private void LetCallGoOn()
    {
        FakeTarget target = Targets[0];
        if (!isTaken && !IsGivenUp && MayTake) TakeOrGiveUp(target);
        else if (isTaken && piecesToPlace.Count != 0 && target.Alive && !placing!.InEvent) PlaceNext(target);
        if (isTaken && Dice.Chance(3)) MapAnew();
        if (SourceMayLeave && Dice.Chance(1) && Dice.Chance(30)) HasSourceExited = true;
        else if (SourceMayLeave && Dice.Chance(1) && Dice.Chance(20)) isSourceExecuting = true;
        else if (SourceMayLeave && HasSourceExited && Dice.Chance(5)) HasStranger = false;
    }

    private void TakeOrGiveUp(FakeTarget target)
    {
        if (!Dice.Chance(20)) return;
        int what = Dice.Below(100);
        if (what < 12 && Forks > 0 && target.Threads[1].IsIdle) Fork(target, target.Threads[1]);
        else if (what < 15 && MayBeGivenUp)
        {
            IsGivenUp = true;
            Die(target);
        }
        else if (what < 20 && MayBeGivenUp)
        {
            IsGivenUp = true;
            UnmapRange(target, target.Threads[0], Control->PlacedAt, Control->PlacedAt + Control->SourceLength);
        }
        else
        {
            isTaken = true;
            placing = target.Threads[0];
            if (piecesToPlace.Count != 0) PlaceNext(target);
            else Announce(target);
        }
    }

    private void Announce(FakeTarget target) => Send(target, new FakeEvent
    {
        Kind = Userfaultfd.EventRemove, Thread = placing!, From = Control->PlacedAt, To = Control->PlacedAt + PageSize, Announces = true,
    });

    private void PlaceNext(FakeTarget target)
    {
        (ulong from, ulong to, ulong length) = piecesToPlace.Dequeue();
        int moved = nextVma++, after = nextVma++;
        if (target.Pages.TryGetValue(from + length, out TargetPage? behind)) Renumber(target, from + length, behind.Vma, after);
        for (ulong i = 0; i < length; i += PageSize)
        {
            target.Pages.Remove(from + i, out TargetPage? page);
            page!.Vma = moved;
            target.Pages[to + i] = page;
        }
        Send(target, new FakeEvent
        {
            Kind = Userfaultfd.EventRemap, Thread = placing!, From = from, To = to, Length = length,
            Then = new FakeEvent { Kind = Userfaultfd.EventUnmap, Thread = placing!, From = from, To = from + length },
        });
    }

    /// <summary>The threads of the target learn of the region when the call is over; of one that replaces another, at once.</summary>
    private bool IsRegionKnown => !IsMove || (isTaken && piecesToPlace.Count == 0 && (Control->PlacedAt != Control->DestinationStart || !placing!.InEvent));

    private bool IsCallOver => !isTaken ? IsGivenUp : CallerMayDie || (piecesToPlace.Count == 0 && !placing!.InEvent) || !Targets[0].Alive;

    // Where a page went, the source maps other things.
    private void MapAnew()
    {
        ref SourcePage page = ref Source[Dice.Below(Source.Length)];
        if (page.HasArrived) page.IsNew = true;
    }

    private long Remap(ulong from, ulong length, ulong newLength, long flags, ulong to)
    {
        if (length != newLength || flags != (Kernel.MREMAP_MAYMOVE | Kernel.MREMAP_FIXED) || from - TakenFrom >= Control->SourceLength
            || from - TakenFrom != to - SourceStart || length > Control->SourceLength - (from - TakenFrom))
            throw new InvalidOperationException($"mremap({from:x}, {length:x}, {newLength:x}, {flags}, {to:x})");
        if (!isTaken) throw new InvalidOperationException("the range is taken before the target has the region");
        int first = (int)((from - TakenFrom) / PageSize), end = first + (int)(length / PageSize);
        if (!Source[first].IsAtSource) return Kernel.EFAULT;
        if (!MovesSeveralVmas && EndOfRun(first, end) < end) return Kernel.EFAULT;
        for (int start = first; start < end;)
        {
            int runEnd = EndOfRun(start, end);
            if (Dice.Chance(MemoryShortage))
            {
                if (end - first == 1) AllowPoison(first);
                return Kernel.ENOMEM;
            }
            for (; start < runEnd; start++)
            {
                if (Source[start].IsNew) throw new InvalidOperationException("took what the source has mapped since");
                Source[start].HasArrived = true;
            }
            while (start < end && !Source[start].IsAtSource) start++;
        }
        return (long)to;
    }

    private int EndOfRun(int start, int limit)
    {
        int end = start + 1;
        while (end < limit && Source[end].IsAtSource && Source[end].Vma == Source[start].Vma) end++;
        return end;
    }

    // It stays the source's.
    private void AllowPoison(int index)
    {
        foreach (TargetPage page in Targets.SelectMany(target => target.Pages.Values).Where(page => page.Index == index)) page.MayBePoisoned = true;
    }

    // MADV_REMOVE: of a private anonymous page it is refused, in the file that keeps the place it does nothing.
    private long AdviseRemove(ulong at) =>
        at < SourceStart + (ulong)Source.Length * PageSize && Source[(at - SourceStart) / PageSize].HasArrived ? Kernel.EINVAL : 0;

    private long Unmap(ulong start, ulong length)
    {
        if (start == ImageStart) throw new ProcessExit(0);
        if (start == (ulong)Control) return 0;
        if (!IsMove)
        {
            if (InheritedPage - start < length) InheritedPage = 0;
            else if (ownMemory.Remove(start)) NativeMemory.AlignedFree((void*)start);
            return 0;
        }
        if (start == Control->ReservedStart && length == Control->ReservedLength)
        {
            foreach (SourcePage page in Source.Where(page => page.HasArrived && page.IsPopulated)) CheckNotOwed(page.Content);
            for (int i = 0; i < Source.Length; i++)
            {
                if (Source[i].HasArrived) Source[i].State = PageState.Missing;
            }
            return 0;
        }
        if (!HasSourceExited && !isSourceExecuting) throw new InvalidOperationException("the source's memory is unmapped under it");
        if (HasStranger) throw new InvalidOperationException("the source's memory is unmapped under another user of it");
        if (Overlaps(Control->ReservedStart, Control->ReservedLength) || Overlaps(ImageStart, ImageLength) || Overlaps((ulong)Control, ControlPage.Size))
            throw new InvalidOperationException($"{start:x}, {length:x} is unmapped, but needed");
        IsSourceReleased |= Overlaps(TakenFrom, Control->SourceLength);
        return 0;

        bool Overlaps(ulong other, ulong otherLength) => start < other + otherLength && other < start + length;
    }

    private long Kill(int pid)
    {
        if (pid != GuardianPid) throw new InvalidOperationException($"kill({pid})");
        IsGuardianDead = true;
        return 0;
    }

    // 0 if both have the same memory.
    private long CompareMemory(int pid) => pid switch
    {
        SourcePid => HasSourceExited ? Kernel.ESRCH : isSourceExecuting ? 1 : 0,
        StrangerPid => HasStranger ? 0 : 1,
        HolderPid => IsHolderDead ? Kernel.ESRCH : 0,
        GuardianPid => IsGuardianDead ? Kernel.ESRCH : 0,
        _ => 1,
    };

    private long Rewind(int file)
    {
        if (file == OwnMapsFile) maps = null;
        else directoryRead = false;
        return 0;
    }

    private long ReadDirectory(byte* buffer)
    {
        if (directoryRead) return 0;
        directoryRead = true;
        int at = 0;
        foreach (int pid in (int[])[1, SourcePid, HolderPid, GuardianPid, StrangerPid])
        {
            byte[] name = Encoding.ASCII.GetBytes(pid + "\0");
            *(ushort*)(buffer + at + 16) = 24;
            name.CopyTo(new Span<byte>(buffer + at + 19, 5));
            at += 24;
        }
        return at;
    }

    private long ReadMaps(byte* buffer, long length)
    {
        if (maps is null)
        {
            StringBuilder text = new();
            text.Append($"{ImageStart:x}-{ImageStart + ImageLength:x} r-xp 00000000 00:00 0\n");
            text.Append($"{TakenFrom:x}-{TakenFrom + Control->SourceLength:x} rw-p 00000000 00:00 0\n");
            text.Append($"{Control->ReservedStart:x}-{Control->ReservedStart + Control->ReservedLength:x} ---s {ControlPage.Size:x8} 00:01 9    /memfd:pvmmap-control (deleted)\n");
            text.Append($"{(ulong)Control:x}-{(ulong)Control + ControlPage.Size:x} rw-s 00000000 00:01 9    /memfd:pvmmap-control (deleted)\n");
            maps = Encoding.ASCII.GetBytes(text.ToString());
            mapsRead = 0;
        }
        int count = (int)Math.Min(length, Math.Min(maps.Length - mapsRead, 1 + Dice.Below(200)));
        new Span<byte>(maps, mapsRead, count).CopyTo(new Span<byte>(buffer, count));
        mapsRead += count;
        return count;
    }
}
