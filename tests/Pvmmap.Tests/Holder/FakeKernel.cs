using System.Runtime.InteropServices;
using Pvmmap.Holder;
using Pvmmap.Holder.Freestanding;

namespace Pvmmap.Tests.Holder;

/// <summary>
/// A kernel with a holder's page table and targets whose threads do at random what programs do; they move whenever the holder or the guardian
/// makes a system call. It knows what each page of each target has to read as, and throws when the holder drops a page that is still owed.
/// </summary>
internal sealed unsafe partial class FakeKernel : IDisposable
{
    public const ulong PageSize = 4096;
    public const ulong SourceStart = 0x40_0000_0000;
    public const ulong FirstDestination = 0x50_0000_0000;

    [ThreadStatic]
    private static FakeKernel? current;

    public readonly Dice Dice;
    public readonly SourcePage[] Source;
    public readonly List<FakeTarget> Targets = [];
    public readonly Dictionary<int, FakeTarget> Descriptors = [];
    private ulong nextAddress = FirstDestination;
    private readonly HashSet<ulong> ownMemory = [];
    private int nextVma = 1;
    private long clock = 1;

    public FakeKernel(ulong seed, int pages)
    {
        Dice = new Dice(seed);
        Source = new SourcePage[pages];
        Control = (ControlPage*)NativeMemory.AllocZeroed(ControlPage.Size);
        Control->AddressSpaceEnd = Pvmmap.Linux.Processor.AddressSpaceEnd;
        Control->SourceStart = SourceStart;
        Control->SourceLength = (ulong)pages * PageSize;
        Control->ContextCount = 1;
        Control->SegmentCount = 1;
        current = this;
    }

    public ControlPage* Control { get; }

    /// <summary>How many more things the targets do.</summary>
    public int ActionsLeft { get; set; }

    public int Forks { get; set; } = 5;

    public bool HasPagemapScan { get; set; } = true;

    public bool HasPoison { get; set; } = true;

    /// <summary>Percent of the copies that are refused for want of memory.</summary>
    public int CopyShortage { get; set; } = 1;

    /// <summary>The process is killed at this many system calls from now.</summary>
    public int KillAfter { get; set; } = int.MaxValue;

    /// <summary>The holder is killed at this many stores to the control page from now.</summary>
    public int KillAtStore { get; set; } = int.MaxValue;

    public long Calls { get; private set; }

    public long CallLimit { get; set; } = 200_000;

    /// <summary>The holder is dead: poison is right for anything.</summary>
    public bool SourceIsGone { get; set; }

    /// <summary>The tables are to overflow: poison is right for anything.</summary>
    public bool SourceMayBeLost { get; set; }

    /// <summary>Of a copy: the caller has not said yet that its call is over.</summary>
    public bool CallStaysOpen { get; set; }

    /// <summary>Percent of the holder's own mappings that are refused.</summary>
    public int MappingShortage { get; set; } = 5;

    /// <summary>Descriptors have numbers below this one.</summary>
    public int DescriptorLimit { get; set; } = 1000;

    /// <summary>Inherited by a copy's holder, and not unmapped yet: where the source has this content; 0: nothing there.</summary>
    public ulong InheritedPage { get; set; }

    /// <summary>Called when a thread has read or written what it touched.</summary>
    public Action<FakeTarget, FakeThread> OnTouched { get; set; } = (_, _) => { };

    /// <summary>Called when the holder has read an event.</summary>
    public Action<FakeTarget, FakeEvent> OnRead { get; set; } = (_, _) => { };

    /// <summary>Called when the holder sleeps.</summary>
    public Action OnIdle { get; set; } = () => { };

    public static KernelEntry EntryPoint => &Enter;

    public void Dispose()
    {
        NativeMemory.Free(Control);
        foreach (ulong at in ownMemory) NativeMemory.AlignedFree((void*)at);
        current = null;
    }

    /// <summary>The first target, registered over the whole range, and its segment in the control page.</summary>
    public FakeTarget Place()
    {
        FakeTarget target = new() { Descriptor = HolderFds.Userfaultfd };
        ulong at = Reserve(Source.Length);
        int vma = nextVma++;
        for (int i = 0; i < Source.Length; i++)
        {
            target.Pages[at + (ulong)i * PageSize] = new TargetPage
            {
                Vma = vma,
                Index = i,
                Expected = Source[i].IsPopulated ? Source[i].Content : 0,
                MayBePoisoned = Source[i].Unreadable,
            };
        }
        Targets.Add(target);
        Descriptors[target.Descriptor] = target;
        byte* memory = (byte*)Control;
        ((ControlContext*)(memory + ControlPage.ContextsOffset))->Fd = target.Descriptor;
        ((ControlContext*)(memory + ControlPage.ContextsOffset))->Alive = 1;
        ControlSegment* segment = (ControlSegment*)(memory + ControlPage.SegmentsOffset);
        segment->Destination = at;
        segment->Source = SourceStart;
        segment->Length = (ulong)Source.Length * PageSize;
        for (int i = 0; i < Source.Length; i++)
        {
            if (Source[i].IsPopulated) Control->BytesTotal += PageSize;
        }
        return target;
    }

    private ulong Reserve(int pages)
    {
        ulong at = nextAddress;
        // What moved back to an earlier place may reach beyond it.
        while (Targets.Exists(target => Enumerable.Range(0, pages).Any(i => target.Pages.ContainsKey(at + ((ulong)i * PageSize))))) at += 64 * PageSize;
        nextAddress = at + ((ulong)pages * PageSize) + (64 * PageSize);
        return at;
    }

    /// <summary>The holder, or the guardian in its place, is about to store something for others to see.</summary>
    public static void BeforeStore()
    {
        if (current is { } kernel && --kernel.KillAtStore < 0) throw new ProcessKilled();
    }

    private static long Enter(long number, long a1, long a2, long a3, long a4, long a5, long a6) =>
        current!.Call(number, a1, a2, a3, a4, a5);

    private long Call(long number, long a1, long a2, long a3, long a4, long a5)
    {
        if (++Calls > CallLimit) throw new InvalidOperationException("the holder does not come to an end");
        bool killed = --KillAfter < 0;
        if (killed && Dice.Chance(50)) throw new ProcessKilled();
        if (HasWorker && Dice.Chance(50)) LetWorkerRun();
        LetTargetsRun();
        long result = Dispatch(number, a1, a2, a3, a4, a5);
        if (killed) throw new ProcessKilled();
        return result;
    }

    private long Dispatch(long number, long a1, long a2, long a3, long a4, long a5) => number switch
    {
        SystemCalls.read when a1 == OwnMapsFile => ReadMaps((byte*)a2, a3),
        SystemCalls.read => Read((int)a1, (UserfaultMessage*)a2, a3),
        SystemCalls.futex when a2 == 0 => Sleep((uint*)a1, (uint)a3),
        SystemCalls.futex or SystemCalls.sendmsg or SystemCalls.sendto => 0,
        SystemCalls.ioctl => Ioctl((int)a1, (ulong)a2, (ulong*)a3),
        SystemCalls.pread64 when a1 == TargetMemory => ReadTargetMemory(),
        SystemCalls.pwrite64 => WriteTargetMemory((int)a1, (ulong)a2, (ulong)a3, (ulong)a4),
        SystemCalls.process_vm_writev => WriteByNumber((int)a1, (ulong*)a2, (ulong*)a4),
        SystemCalls.getcpu or SystemCalls.sched_setaffinity => 0,
        SystemCalls.pread64 => ReadPagemap((ulong*)a2, a3, a4),
        SystemCalls.madvise => Advise((ulong)a1, (ulong)a2, a3),
        SystemCalls.ppoll => PollAll((PollDescriptor*)a1, a2, (long*)a3),
        SystemCalls.clock_gettime => GetTime((long*)a2),
        SystemCalls.close => CloseDescriptor((int)a1),
        SystemCalls.exit_group => throw new ProcessExit((int)a1),
        SystemCalls.fcntl or SystemCalls.sched_yield => 0,
        SystemCalls.mremap => Remap((ulong)a1, (ulong)a2, (ulong)a3, a4, (ulong)a5),
        SystemCalls.munmap => Unmap((ulong)a1, (ulong)a2),
        SystemCalls.mmap => MapOwn((ulong)a2, (int)a5),
        SystemCalls.kill => Kill((int)a1),
        SystemCalls.wait4 => a1,
        SystemCalls.getpid => IsHolderDead ? GuardianPid : HolderPid,
        SystemCalls.kcmp => CompareMemory((int)a2),
        SystemCalls.lseek => Rewind((int)a1),
        SystemCalls.getdents64 => ReadDirectory((byte*)a2),
        SystemCalls.userfaultfd => Kernel.EPERM,
        SystemCalls.openat => OwnMapsFile,
        SystemCalls.dup3 => a2,
        SystemCalls.sched_getaffinity => GiveProcessors((ulong*)a3),
        SystemCalls.munlock or SystemCalls.prctl => 0,
        _ => throw new InvalidOperationException($"unexpected system call {number}"),
    };

    private long MapOwn(ulong length, int file)
    {
        if (IsMove || file != -1) throw new InvalidOperationException("the holder maps something");
        if (Dice.Chance(MappingShortage)) return Kernel.ENOMEM;
        void* memory = NativeMemory.AlignedAlloc((nuint)length, (nuint)PageSize);
        NativeMemory.Clear(memory, (nuint)length);
        ownMemory.Add((ulong)memory);
        return (long)memory;
    }

    private long GetTime(long* time)
    {
        time[0] = 0;
        time[1] = clock++;
        return 0;
    }

    private int CloseDescriptor(int file)
    {
        if (Descriptors.Remove(file, out FakeTarget? target)) target.Released = true;
        else if (file == HolderFds.Socket) isSocketClosed = true;
        else if (file == TargetMemory) IsTargetMemoryClosed = true;
        return 0;
    }

    // The kernel gives the lowest number that is free. After a copy's call only a few are not.
    private bool IsFree(int file) => !Descriptors.ContainsKey(file)
        && file is not (HolderFds.Control or HolderFds.Pagemap or HolderFds.HolderPidfd)
        && !(IsMove && (file is >= HolderFds.SourcePidfd and <= HolderFds.Proc || (file == HolderFds.Socket && !isSocketClosed)));

    private int PollAll(PollDescriptor* descriptors, long count, long* timeout)
    {
        int ready = 0;
        bool sleeps = timeout == null || timeout[0] != 0 || timeout[1] != 0;
        if (sleeps) OnIdle();
        for (long i = 0; i < count; i++)
        {
            int before = ready;
            if (descriptors[i].File == HolderFds.HolderPidfd)
                ready++;
            else if (IsMove && descriptors[i].File == HolderFds.SourcePidfd)
                ready += HasSourceExited ? 1 : 0;
            else if (IsMove && !isSocketClosed && descriptors[i].File == HolderFds.Socket)
                ready += IsCallOver ? 1 : 0;
            else if (!IsMove && Control->CallIsOpen != 0 && descriptors[i].File == HolderFds.Socket)
                ready += CallStaysOpen ? 0 : 1;
            else if (Descriptors.TryGetValue(descriptors[i].File, out FakeTarget? target)
                && (target.Events.Count != 0 || target.Threads.Any(thread => thread.Fault is not null && !thread.Reported)))
                ready++;
            descriptors[i].Returned = (short)(ready == before ? 0 : Kernel.PollIn);
        }
        if (sleeps && ready == 0) Sleeps++;
        return ready;
    }

    private long Read(int file, UserfaultMessage* messages, long length)
    {
        if (!Descriptors.TryGetValue(file, out FakeTarget? target)) return -9;
        int room = (int)(length / sizeof(UserfaultMessage));
        int count = 0;
        // As the kernel does: faults first, although an event may be older.
        foreach (FakeThread thread in target.Threads.Where(thread => thread.Fault is not null && !thread.Reported))
        {
            if (count == room) break;
            thread.Reported = true;
            messages[count++] = new UserfaultMessage { Event = Userfaultfd.EventPagefault, To = thread.Fault!.Value + (ulong)Dice.Below(4096) };
        }
        while (count < room && target.Events.TryPeek(out FakeEvent? happened))
        {
            // What has been read before is the answer; the event stays.
            if (happened.Child is not null && !Enumerable.Range(0, DescriptorLimit).Any(IsFree)) return count == 0 ? Kernel.EMFILE : count * sizeof(UserfaultMessage);
            target.Events.Dequeue();
            UserfaultMessage message = new() { Event = happened.Kind, From = happened.From, To = happened.To, Length = happened.Length };
            if (happened.Child is { } child)
            {
                child.Descriptor = Enumerable.Range(0, 1000).First(IsFree);
                Descriptors[child.Descriptor] = child;
                message.From = 0;
                message.Descriptor = (uint)child.Descriptor;
            }
            messages[count++] = message;
            happened.Delay = Dice.Below(4);
            target.Leaving.Add(happened);
            OnRead(target, happened);
        }
        return count == 0 ? Kernel.EAGAIN : count * sizeof(UserfaultMessage);
    }

    private long Ioctl(int file, ulong request, ulong* argument)
    {
        const ulong unregister = 0x8010aa01, wake = 0x8010aa02, copy = 0xc028aa03, zeroPage = 0xc020aa04, poison = 0xc020aa08, scan = 0xc0606610;
        if (request == scan) return HasPagemapScan && file == HolderFds.Pagemap ? Scan(argument) : Kernel.ENOTTY;
        if (!Descriptors.TryGetValue(file, out FakeTarget? target)) return -9;
        switch (request)
        {
            case wake:
                Wake(target, argument[0], argument[1]);
                return 0;
            case unregister:
                return Unregister(target, argument[0], argument[1]);
            case copy:
                return Fill(target, argument[0], argument[2], &argument[4], i => CopyPage(argument[1] + i));
            case zeroPage:
                return Fill(target, argument[0], argument[1], &argument[3], _ => new TargetPage { State = PageState.ZeroPage });
            case poison when HasPoison:
                return Fill(target, argument[0], argument[1], &argument[3], _ => new TargetPage { State = PageState.Poisoned });
            default:
                return Kernel.EINVAL;
        }
    }

    private TargetPage? CopyPage(ulong address)
    {
        if (address == InheritedPage && address != 0) return new TargetPage { State = PageState.Present, Content = -1 };
        if (SourceIsGone || address < SourceStart || address >= SourceStart + (ulong)Source.Length * PageSize) return null;
        ref SourcePage page = ref Source[(address - SourceStart) / PageSize];
        if (page.Unreadable || (IsMove && !page.HasArrived)) return null;
        return new TargetPage { State = PageState.Present, Content = page.IsPopulated ? page.Content : 0 };
    }

    private long Fill(FakeTarget target, ulong start, ulong length, ulong* done, Func<ulong, TargetPage?> content)
    {
        if (length == 0 || start % PageSize != 0) return Kernel.EINVAL;
        if (target.Changing || (target.Alive && Dice.Chance(3)))
        {
            if (Dice.Chance(50)) *done = unchecked((ulong)(long)Kernel.EAGAIN);
            return Kernel.EAGAIN;
        }
        // Since Linux 6.9 the VMA is looked up between two looks at what is changing: what moves away just then is ENOENT, not EAGAIN.
        if (Dice.Chance(15)) LetTargetsRun();
        if (!target.Alive) return Kernel.ESRCH;
        long error = target.IsOneVma(start, length) && !target.Released ? 0 : Kernel.ENOENT;
        if (error == 0 && target.Changing) error = Kernel.EAGAIN;
        if (error == 0 && Dice.Chance(CopyShortage)) error = Kernel.ENOMEM;
        ulong filled = 0;
        while (error == 0 && filled < length)
        {
            TargetPage page = target.Pages[start + filled];
            TargetPage? made = content(filled);
            if (made is null) error = Kernel.EFAULT;
            else if (page.State != PageState.Missing) error = Kernel.EEXIST;
            else
            {
                page.State = made.State;
                page.Content = made.Content;
                filled += PageSize;
                if (Dice.Chance(5)) break;
            }
        }
        *done = filled != 0 ? filled : unchecked((ulong)error);
        if (filled == 0) return error;
        Wake(target, start, filled);
        return filled == length ? 0 : Kernel.EAGAIN;
    }

    private long Unregister(FakeTarget target, ulong start, ulong length)
    {
        // Whoever waits there goes on with ordinary memory.
        for (ulong at = start; at < start + length; at += PageSize)
        {
            if (target.Pages.TryGetValue(at, out TargetPage? page) && page.State == PageState.Missing) page.State = PageState.ZeroPage;
        }
        Wake(target, start, length);
        return 0;
    }

    private long Scan(ulong* argument)
    {
        const ulong present = 8, swapped = 16, zero = 32, huge = 64;
        ulong start = argument[2], end = argument[3], vectorLength = argument[6], maximum = argument[7];
        ulong* vector = (ulong*)argument[5];
        ulong count = 0, pages = 0, at = start;
        for (; at < end && (maximum == 0 || pages < maximum); at += PageSize)
        {
            SourcePage page = At(at);
            ulong categories = page.State switch
            {
                PageState.Present => present,
                PageState.Swapped => swapped,
                PageState.ZeroPage => present | zero,
                _ => 0,
            } | (page.Huge ? huge : 0);
            ulong masked = categories ^ argument[8];
            if ((masked & argument[9]) != argument[9] || (masked & argument[10]) == 0) continue;
            ulong returned = categories & argument[11];
            if (count != 0 && vector[count * 3 - 2] == at && vector[count * 3 - 1] == returned)
                vector[count * 3 - 2] = at + PageSize;
            else
            {
                if (count == vectorLength) break;
                vector[count * 3] = at;
                vector[count * 3 + 1] = at + PageSize;
                vector[count * 3 + 2] = returned;
                count++;
            }
            pages++;
        }
        argument[4] = at;
        return (long)count;
    }

    private long ReadPagemap(ulong* entries, long length, long offset)
    {
        for (long i = 0; i < length / 8; i++)
        {
            PageState state = At((ulong)(offset / 8 + i) * PageSize).State;
            entries[i] = state is PageState.Present or PageState.ZeroPage ? 1UL << 63 : state == PageState.Swapped ? 1UL << 62 : 0;
        }
        return length;
    }

    private SourcePage At(ulong address) =>
        SourceIsGone || address < SourceStart || address >= SourceStart + (ulong)Source.Length * PageSize
            || (IsMove && !Source[(address - SourceStart) / PageSize].HasArrived)
            ? default
            : Source[(address - SourceStart) / PageSize];

    private long Advise(ulong start, ulong length, long advice)
    {
        if (advice == Kernel.MADV_REMOVE) return AdviseRemove(start);
        if (advice != Kernel.MADV_DONTNEED) return 0;
        for (ulong at = start; at < start + length; at += PageSize)
        {
            ref SourcePage page = ref Source[(at - SourceStart) / PageSize];
            if (IsMove && !page.HasArrived) continue;
            if (page.IsPopulated && !page.Unreadable && !SourceMayBeLost) CheckNotOwed(page.Content);
            page.State = PageState.Missing;
            page.Huge = false;
        }
        return 0;
    }

    private void CheckNotOwed(long content)
    {
        foreach (FakeTarget target in Targets.Where(target => target.Alive && !target.Released))
        {
            foreach ((ulong at, TargetPage page) in target.Pages)
            {
                if (page.State == PageState.Missing && page.Expected == content && !page.MayBeZero)
                    throw new InvalidOperationException($"page {content} was dropped, but is still owed at {at:x} of {target.Descriptor}");
            }
        }
    }
}

/// <summary>Random numbers that a seed repeats.</summary>
internal sealed class Dice(ulong seed)
{
    private ulong state = seed * 0x9e3779b97f4a7c15 + 0x632be59bd9b4e019;

    public int Below(int limit)
    {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return (int)((state >> 33) % (ulong)limit);
    }

    public bool Chance(int percent) => Below(100) < percent;
}
