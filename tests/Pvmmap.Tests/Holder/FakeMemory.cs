namespace Pvmmap.Tests.Holder;

/// <summary>What a page table says of one page.</summary>
internal enum PageState
{
    /// <summary>Never touched, or dropped.</summary>
    Missing,
    Present,
    Swapped,
    ZeroPage,
    Poisoned,
}

/// <summary>A page of the holder's range.</summary>
internal struct SourcePage
{
    public PageState State;
    public bool Huge;
    /// <summary>A guard page or one with a memory failure: reading it fails.</summary>
    public bool Unreadable;
    public long Content;
    /// <summary>A move: which VMA of the source it lies in, or lay; 0: none, a gap.</summary>
    public int Vma;
    /// <summary>A move: it is at the hidden place.</summary>
    public bool HasArrived;
    /// <summary>A move: the source has mapped something else where this one was.</summary>
    public bool IsNew;

    public readonly bool IsAtSource => IsNew || (!HasArrived && Vma != 0);

    public readonly bool IsPopulated => State is PageState.Present or PageState.Swapped;
}

/// <summary>A page of a target, inside a registered VMA.</summary>
internal sealed class TargetPage
{
    public PageState State;
    public long Content;
    /// <summary>What the program has to find here.</summary>
    public long Expected;
    /// <summary>A MADV_DONTNEED is on its way: the old content and zero are both right.</summary>
    public bool MayBeZero;
    public bool MayBePoisoned;
    /// <summary>MREMAP_DONTUNMAP has left it behind.</summary>
    public bool IsLeft;
    public int Vma;
    /// <summary>Which page of the source it is to be, if any.</summary>
    public int Index = -1;

    public TargetPage Copy() => (TargetPage)MemberwiseClone();
}

/// <summary>An address space of the target's family, with its userfaultfd.</summary>
internal sealed class FakeTarget
{
    public const int ThreadCount = 3;

    public readonly SortedDictionary<ulong, TargetPage> Pages = [];
    public readonly FakeThread[] Threads = [.. Enumerable.Range(0, ThreadCount).Select(_ => new FakeThread())];
    public readonly Queue<FakeEvent> Events = new();
    /// <summary>Read by the holder, but the sending thread has not run since: mmap_changing is still raised.</summary>
    public readonly List<FakeEvent> Leaving = [];
    /// <summary>MADV_DONTNEEDs that have told of it, but not taken the pages yet.</summary>
    public readonly List<FakeEvent> Dropping = [];
    /// <summary>mremap()s whose own event waits for that of what they have unmapped.</summary>
    public readonly List<FakeEvent> Untold = [];
    public int Descriptor = -1;
    public bool Alive = true;
    /// <summary>A child runs only when the fork event of its parent has been read.</summary>
    public bool Running = true;
    /// <summary>The last descriptor of its userfaultfd is closed, or the holder unregistered it.</summary>
    public bool Released;

    public bool Changing => Events.Count != 0 || Leaving.Count != 0;

    public bool IsOneVma(ulong start, ulong length)
    {
        int vma = 0;
        for (ulong at = start; at < start + length; at += FakeKernel.PageSize)
        {
            if (!Pages.TryGetValue(at, out TargetPage? page) || (vma != 0 && page.Vma != vma)) return false;
            vma = page.Vma;
        }
        return true;
    }
}

internal sealed class FakeThread
{
    /// <summary>Waits for this page; the fault was read by the holder if <see cref="Reported"/>.</summary>
    public ulong? Fault;
    public bool Reported;
    public bool Write;
    /// <summary>Waits for its event to be read.</summary>
    public bool InEvent;

    public bool IsIdle => Fault is null && !InEvent;
}

internal sealed class FakeEvent
{
    public required byte Kind { get; init; }
    public required FakeThread Thread { get; init; }
    public ulong From, To, Length;
    public FakeTarget? Child;
    /// <summary>Sent by the same thread when this one has been read.</summary>
    public FakeEvent? Then;
    public int Delay;
    /// <summary>A MADV_DONTNEED that only tells of the region of a move being taken.</summary>
    public bool Announces;
}

/// <summary>The process called exit_group().</summary>
internal sealed class ProcessExit(int code) : Exception($"exit_group({code})")
{
    public int Code { get; } = code;
}

/// <summary>The process was killed between two of its instructions.</summary>
internal sealed class ProcessKilled : Exception;
