using System.Globalization;
using Pvmmap.Holder;
using Pvmmap.Linux;
using Pvmmap.Procfs;
using Pvmmap.Remote;
using Pvmmap.Source;

namespace Pvmmap.Snapshots;

/// <summary>Takes one snapshot. What can be learnt before or after the stop is; within it: registers, maps, the fork, and the content that a fork does not keep.</summary>
internal sealed class SnapshotCapture
{
    private const int Attempts = 8;

    /// <summary>Bytes up to which memory withheld from a fork is copied: less work than to lift the advice and put it back.</summary>
    private const ulong WorthLifting = 1 << 20;
    private const int MostLifted = 8;
    private const int Expendable = 1000;

    private static readonly TimeSpan s_dying = TimeSpan.FromSeconds(1);
    private static readonly PageRange s_everything = new(0, ulong.MaxValue & ~(PageRange.PageSize - 1));

    private readonly Participant from;
    private readonly SnapshotOptions options;
    private readonly List<PageRange>? wanted;
    private readonly TracerProcess tracer;
    private readonly Dictionary<(uint Major, uint Minor, ulong Inode), FileDescriptor?> objects = [];

    /// <summary>Who is to be the keeper; 0 before there is one.</summary>
    private int forked;

    private bool keeperHasEnded;

    private SnapshotCapture(Participant from, SnapshotOptions options, TracerProcess tracer)
    {
        this.from = from;
        this.options = options;
        this.tracer = tracer;
        wanted = options.Ranges is null ? null : Joined(options.Ranges);
    }

    private int Pid => from.Pid;

    /// <summary>Captures a process; the calling thread stays for as long as a keeper needs its tracer.</summary>
    /// <param name="from">The process.</param>
    /// <param name="options">What is wanted.</param>
    /// <param name="tracer">Of the calling thread.</param>
    public static (SnapshotDescription Description, KeeperProcess Keeper) Run(Participant from, SnapshotOptions options, TracerProcess tracer)
    {
        SnapshotCapture capture = new(from, options, tracer);
        try
        {
            return capture.Run();
        }
        catch (PvmmapException e) when (e.Errno is Errno.ESRCH or Errno.EAGAIN && capture.LooksAtKeeper())
        {
            if (capture.End(e.Errno) is { } end) throw end;
            throw;
        }
        finally
        {
            foreach (FileDescriptor? descriptor in capture.objects.Values) descriptor?.Dispose();
        }
    }

    /// <summary>Before the process is let go and an unfinished keeper ended, which looks like one that was killed.</summary>
    private bool LooksAtKeeper()
    {
        keeperHasEnded = forked != 0 && IsEnding(forked);
        return true;
    }

    /// <summary>What is to be said instead if the process or its keeper has ended; null if neither has. The process is on its own again, and may be waited for.</summary>
    private PvmmapException? End(Errno errno)
    {
        // One that is being taken down has no memory any more, and is there for a moment still.
        if (IsEnding(Pid) || (errno == Errno.ESRCH && !keeperHasEnded && Poll.Readable(from.Pidfd, s_dying)))
            return new PvmmapException(Errno.ESRCH, "take a snapshot", Pid, hint: "it has ended meanwhile");
        return errno != Errno.ESRCH || forked == 0 ? null : new PvmmapException(Errno.EAGAIN, "take a snapshot", Pid, hint: "its keeper was killed at once");
    }

    private static bool IsEnding(int pid) => ProcessStatus.Find(pid) is not { IsEnding: false };

    /// <summary>Whole pages, ascending, not adjacent.</summary>
    public static List<PageRange> Joined(IEnumerable<PageRange> ranges)
    {
        List<PageRange> joined = [];
        foreach (PageRange range in ranges.OrderBy(range => range.Start))
        {
            if (range.End < range.Start || !PageRange.TryRoundOutward(range.Start, range.Length, out PageRange whole))
                throw new PvmmapException(Errno.EINVAL, "take a snapshot", range: range, hint: "a range is empty or passes the end of the address space");
            if (joined.Count > 0 && whole.Start <= joined[^1].End) joined[^1] = new PageRange(joined[^1].Start, Math.Max(joined[^1].End, whole.End));
            else joined.Add(whole);
        }
        return joined.Count > 0 ? joined : throw new PvmmapException(Errno.EINVAL, "take a snapshot", hint: "no range is given");
    }

    private (SnapshotDescription Description, KeeperProcess Keeper) Run()
    {
        Step.Begin(Pid, isMove: false);
        Step.Reached(CallStep.Checked);
        List<PageRange> strange = [];
        for (int attempt = 0; attempt < Attempts; attempt++)
        {
            List<SmapsEntry> entries = Smaps.Read(Pid);
            // Fills of ours are completed first: their missing pages would look like holes. One that nobody knows has perhaps just ended by itself: then it is not there any more.
            List<PageRange> guarded = [.. entries.Where(entry => (entry.Flags & (VmFlags.UffdMissing | VmFlags.UffdMinor)) != 0 && IsWanted(entry.Vma.Range)).Select(entry => entry.Vma.Range)];
            if (guarded.Count != 0 && (Duplication.CompleteFillsInto(Pid, null) || !guarded.SequenceEqual(strange)))
            {
                strange = guarded;
                continue;
            }
            using (SnapshotStash estimate = new(Pid)) Plan(SnapshotArea.Join([.. entries.Select(entry => entry.Vma)], entries), estimate);
            if (TryTake(entries) is { } taken) return taken;
            Duplication.CompleteFillsInto(Pid, null);
        }
        throw new PvmmapException(Errno.EAGAIN, "take a snapshot", Pid, hint: "the process keeps registering memory with a userfaultfd");
    }

    /// <summary>Opens shared memory and looks for its content; EFBIG if it is more than may be copied: before the stop, and in it before the fork for what is there then.</summary>
    private void Plan(List<SnapshotArea> areas, SnapshotStash stash)
    {
        ulong shared = 0;
        foreach (SnapshotArea area in areas.Where(area => area.IsTakenShared(options) && IsWanted(area.Range)))
        {
            FileDescriptor? file = ObjectOf(area.Vma);
            foreach (PageRange part in WantedOf(area.Range))
            {
                shared += stash.Plan(area.Vma, part, file);
                if (shared <= options.MaximumSharedBytes) continue;
                throw new PvmmapException(Errno.EFBIG, "take a snapshot", Pid, part, string.Create(CultureInfo.InvariantCulture,
                    $"there are more than {options.MaximumSharedBytes} bytes of shared memory, which is copied while the process stands still; allow more (--max-shared), or take fewer kinds of it (--filter)"));
            }
        }
    }

    private FileDescriptor? ObjectOf(Vma vma)
    {
        var key = (vma.DeviceMajor, vma.DeviceMinor, vma.Inode);
        if (objects.TryGetValue(key, out FileDescriptor? file)) return file;
        try
        {
            // As of a private mapping: to read it is enough.
            file = MappedObject.Open(Pid, Pid, from.Pidfd, new SourcePiece(vma.Range, vma.Protection, VmFlags.None, null) { Kind = MemoryKind.PrivateFile, Mapped = vma });
        }
        catch (PvmmapException e) when (e.Errno is Errno.EPERM or Errno.EFAULT)
        {
            // It is read through the process then, holes and all.
            file = null;
        }
        objects.Add(key, file);
        return file;
    }

    private bool IsWanted(PageRange range) => wanted is null || wanted.Any(range.Overlaps);

    private IEnumerable<PageRange> WantedOf(PageRange range) => wanted is null ? [range] : wanted.Where(range.Overlaps).Select(range.Intersect);

    /// <returns>Null if a userfaultfd guards memory of which that was not known.</returns>
    private (SnapshotDescription Description, KeeperProcess Keeper)? TryTake(List<SmapsEntry> entries)
    {
        forked = 0;
        using SnapshotStash stash = new(Pid);
        using CallLock locked = CallLock.Take(Pid);
        using StoppedProcess stopped = StoppedProcess.Stop(tracer, from.Pidfd, Pid, everyThread: true, default);
        DateTimeOffset takenAt = DateTimeOffset.UtcNow;
        List<ThreadRegisters> registers = stopped.ReadThreads();
        List<SnapshotArea> areas = [.. SnapshotArea.Join(Without(Maps.Read(Pid), stopped.OwnPages), entries).Where(area => IsWanted(area.Range))];
        if (IsGuarded(stopped, areas)) return null;
        Plan(areas, stash);
        Step.Reached(CallStep.RangeProbed);
        List<SnapshotArea> lifted = [.. areas.Where(area => (area.Flags & SourcePlan.WithheldFromFork) != 0 && area.Refusal is null && !area.Flags.HasFlag(VmFlags.Droppable) &&
            (area.IsPrivateFile || (area.IsAnonymous && area.Range.Length > WorthLifting))).OrderByDescending(area => area.Range.Length).Take(MostLifted)];
        RemoteThread child;
        using (ForkAdvice advice = new(stopped, lifted.SelectMany(area => WantedOf(area.Range).Select(range => (range, area.Flags)))))
        {
            if (wanted is { Count: 1 }) advice.WithholdTheRest(wanted[0]);
            Step.Reached(SnapshotStep.AdviceChanged);
            child = stopped.ForkUnseen();
            forked = child.Tid;
        }
        Step.Reached(SnapshotStep.AdviceRestored, child.Tid);
        stopped.RemoveFrameFrom(child, s_everything);
        List<SnapshotArea> copied = [.. Copied(areas, child.Tid)];
        using (FileDescriptor pagemap = Files.Open(string.Create(CultureInfo.InvariantCulture, $"/proc/{Pid}/pagemap"), Files.O_RDONLY))
        {
            Step.Reached(SnapshotStep.PagemapOpened, child.Tid);
            foreach (SnapshotArea area in copied) stash.Take(area, WantedOf(area.Range), area.Vma.Shared ? ObjectOf(area.Vma) : null, pagemap);
        }
        stopped.ConfirmStandsStill();
        List<SnapshotThread> threads = [.. registers.Select(Describe)];
        PageRange own = stopped.OwnPages;
        Step.Reached(SnapshotStep.ContentCopied, child.Tid);
        stopped.Dispose();
        locked.Dispose();

        Vacate(child, copied);
        stash.Put(child.Tid);
        foreach (SnapshotArea area in copied) Protect(child, area);
        Step.Reached(SnapshotStep.KeeperFilled, child.Tid);
        HashSet<SnapshotArea> inside = [.. copied];
        SnapshotDescription description = new()
        {
            Identity = Identify(child.Tid),
            TakenAt = takenAt,
            StopTime = stopped.StopTime,
            AuxiliaryVector = ProcFile.Parse(child.Tid, "auxv", text => text.ToArray()),
            Ranges = [.. areas.SelectMany(area => WantedOf(area.Range).Select(range => Describe(area, range, inside.Contains(area))))],
            Threads = threads,
            Descriptors = ReadDescriptors(child.Tid),
            Unreadable = [.. stash.Unreadable.OrderBy(range => range.Start)],
            Notes = stopped.IsUnderSeccomp ? ["the process is under a seccomp filter that the keeper would inherit: the snapshot ends with this object and cannot be detached"] : [],
        };
        List<PageRange> drops = Drops(Maps.Read(child.Tid), wanted, own);
        ulong mapped = SnapshotDescription.MappedBytes(drops.Count);
        using FileDescriptor file = description.Write(drops, mapped);
        KeeperProcess keeper = KeeperProcess.Start(child, file, mapped, frozen: stopped.IsUnderSeccomp);
        Settle(keeper.Pid);
        return (description, keeper);
    }

    /// <summary>It goes with this process, not with the captured one, and is the first to go when memory runs out: another snapshot can be taken.</summary>
    public static void Settle(int keeper)
    {
        CgroupMembership.Adopt([[keeper]], Environment.ProcessId);
        CgroupMembership.Expose(keeper, Expendable);
    }

    /// <summary>What a keeper is to unmap: of our own, and what is not wanted.</summary>
    public static List<PageRange> Drops(List<Vma> vmas, IReadOnlyList<PageRange>? wanted, PageRange own)
    {
        List<PageRange> drops = own.Length == 0 ? [] : [own];
        if (wanted is null) return drops;
        ulong at = 0;
        foreach (PageRange range in wanted.Append(new PageRange(ulong.MaxValue, ulong.MaxValue)))
        {
            drops.AddRange(vmas.Where(vma => !vma.IsSpecial && vma.Range.Overlaps(new PageRange(at, range.Start))).Select(vma => vma.Range.Intersect(new PageRange(at, range.Start))));
            at = range.End;
        }
        return drops;
    }

    // Ours is between theirs, perhaps joined to one of them.
    private static List<Vma> Without(List<Vma> vmas, PageRange own) =>
    [
        .. vmas.SelectMany(vma => !vma.Range.Overlaps(own) ? (IEnumerable<Vma>)[vma] : new PageRange[] { new(vma.Range.Start, own.Start), new(own.End, vma.Range.End) }
            .Where(rest => rest.Start < rest.End).Select(rest => vma with { Range = rest })),
    ];

    private bool IsGuarded(StoppedProcess stopped, List<SnapshotArea> areas)
    {
        List<PageRange> runs = [], others = [];
        bool open = false;
        foreach (SnapshotArea area in areas)
        {
            bool asked = area.IsAnonymous && area.MayBeGuarded && !area.IsGuarded;
            foreach (PageRange range in WantedOf(area.Range))
            {
                // One question for all that lies between two other mappings.
                if (asked && open && wanted is null) runs[^1] = new PageRange(runs[^1].Start, range.End);
                else if (asked) runs.Add(range);
                else if (area.IsWritableShared && area.MayBeGuarded && !area.IsGuarded) others.Add(range);
                open = asked;
            }
        }
        return UserfaultfdProbe.IsGuarded(stopped, tracer, runs, others, s_everything);
    }

    /// <summary>What the fork does not have, or not as it was.</summary>
    private IEnumerable<SnapshotArea> Copied(List<SnapshotArea> areas, int child)
    {
        List<Vma> there = Maps.Read(child);
        using FileDescriptor original = Files.Open(string.Create(CultureInfo.InvariantCulture, $"/proc/{Pid}/pagemap"), Files.O_RDONLY);
        using FileDescriptor forked = Files.Open(string.Create(CultureInfo.InvariantCulture, $"/proc/{child}/pagemap"), Files.O_RDONLY);
        int next = 0;
        foreach (SnapshotArea area in areas)
        {
            if (area.Refusal is not null) continue;
            while (next < there.Count && there[next].Range.End <= area.Range.Start) next++;
            if (area.Vma.Shared)
            {
                if (area.IsTakenShared(options)) yield return area;
            }
            else if (area.IsPrivateHugePages || !Covers(there, next, area.Range) || (area.IsAnonymous && IsWiped(area.Range, original, forked)))
            {
                yield return area;
            }
        }
    }

    private static bool Covers(List<Vma> vmas, int first, PageRange range)
    {
        ulong at = range.Start;
        for (int i = first; i < vmas.Count && vmas[i].Range.Start <= at && at < range.End; i++) at = vmas[i].Range.End;
        return at >= range.End;
    }

    /// <summary>A mapping emptied in the fork (MADV_WIPEONFORK, MAP_DROPPABLE).</summary>
    public static bool IsWiped(PageRange range, FileDescriptor original, FileDescriptor forked) =>
        PagemapScan.AnyPopulated(forked, range).Raw == 0 && PagemapScan.AnyPopulated(original, range).Raw != 0;

    // Memory of its own at the same place; neighbours in one go.
    private void Vacate(RemoteThread child, List<SnapshotArea> copied)
    {
        foreach (PageRange range in Joined([.. copied.SelectMany(area => WantedOf(area.Range)), new PageRange(PageRange.PageSize, 2 * PageRange.PageSize)]).Skip(1))
        {
            child.Invoke(SystemCall.SYS_mmap, (long)range.Start, (long)range.Length, Memory.PROT_READ | Memory.PROT_WRITE,
                Memory.MAP_PRIVATE | Memory.MAP_ANONYMOUS | Memory.MAP_NORESERVE | Memory.MAP_FIXED, -1, 0).OrThrow("make room in the snapshot's keeper", Pid, range);
        }
    }

    private void Protect(RemoteThread child, SnapshotArea area)
    {
        if (area.Vma.Protection == (Protection.Read | Protection.Write)) return;
        foreach (PageRange range in WantedOf(area.Range))
        {
            // It matters to nobody but who maps this memory elsewhere.
            child.Invoke(SystemCall.SYS_mprotect, (long)range.Start, (long)range.Length, (long)area.Vma.Protection).OrThrow("protect memory of the snapshot's keeper", Pid, range);
        }
    }

    private static SnapshotRange Describe(SnapshotArea area, PageRange range, bool copied) =>
        area.Describe(range, copied, area.Refusal ?? (area.IsWritableShared && !copied ? "shared memory of its kind was left out (SnapshotOptions.SharedMemory, SharedKinds)" : null));

    private SnapshotThread Describe(ThreadRegisters thread)
    {
        ProcessStat stat = ProcessStat.ReadThread(Pid, thread.Tid);
        byte[] signal = new byte[SnapshotThread.SignalInformationBytes];
        BitConverter.TryWriteBytes(signal, thread.StopSignal);
        return new SnapshotThread
        {
            ThreadId = thread.Tid,
            NamespaceThreadId = from.Status.NSpid.Count > 1 && ProcessStatus.ReadThread(Pid, thread.Tid).NSpid is [.., int inner] ? inner : thread.Tid,
            Name = stat.Name,
            State = thread.StopSignal != 0 ? 'T' : thread.InSystemCall ? 'S' : 'R',
            GeneralRegisters = thread.General,
            FloatingPointRegisters = thread.FloatingPoint,
            ExtendedState = thread.Extended,
            SignalInformation = signal,
            PendingSignals = stat.Pending,
            BlockedSignals = thread.BlockedSignals,
            UserTime = Ticks(stat.UserTicks),
            SystemTime = Ticks(stat.SystemTicks),
        };
    }

    // USER_HZ, 100 on every architecture of ours.
    private static TimeSpan Ticks(ulong ticks) => TimeSpan.FromMilliseconds(10 * ticks);

    /// <param name="like">A process that has its memory, and so its command line and its program.</param>
    private SnapshotIdentity Identify(int like) => Identify(from.Status, like);

    public static SnapshotIdentity Identify(ProcessStatus status, int like)
    {
        ProcessStat stat = ProcessStat.Read(status.Pid);
        return new SnapshotIdentity
        {
            ProcessId = status.Pid,
            ParentId = stat.ParentId,
            GroupId = stat.GroupId,
            SessionId = stat.SessionId,
            UserId = status.RealUid,
            UserGroupId = status.RealGid,
            State = status.State,
            Nice = stat.Nice,
            Flags = stat.Flags,
            StartTime = stat.StartTime,
            ChildrenUserTime = Ticks(stat.ChildrenUserTicks),
            ChildrenSystemTime = Ticks(stat.ChildrenSystemTicks),
            Name = stat.Name,
            Executable = Files.TryReadLink(string.Create(CultureInfo.InvariantCulture, $"/proc/{like}/exe")) ?? "",
            CommandLine = Arguments(Files.TryReadText(string.Create(CultureInfo.InvariantCulture, $"/proc/{like}/cmdline")) ?? ""),
            CoreDumpFilter = (uint)CoreFilters.Of(like),
        };
    }

    private static string[] Arguments(string text) => text.Length == 0 ? [] : (text.EndsWith('\0') ? text[..^1] : text).Split('\0');

    public static List<SnapshotDescriptor> ReadDescriptors(int pid)
    {
        string folder = string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/fd");
        List<SnapshotDescriptor> descriptors = [];
        foreach (string path in Directory.GetFileSystemEntries(folder))
        {
            if (Files.TryReadLink(path) is { } target) descriptors.Add(new SnapshotDescriptor(int.Parse(Path.GetFileName(path.AsSpan()), CultureInfo.InvariantCulture), target));
        }
        descriptors.Sort((a, b) => a.Number.CompareTo(b.Number));
        return descriptors;
    }
}
