using System.Globalization;
using Pvmmap.Holder;
using Pvmmap.Linux;
using Pvmmap.Procfs;
using Pvmmap.Remote;
using Pvmmap.Source;

namespace Pvmmap.Snapshots;

/// <summary>
/// A process as it was at one instant: memory, registers, maps. The process stands still for the time a fork takes and goes on; the snapshot is read at
/// leisure. Its memory is kept by a process of its own, the keeper (named pvmmap-snapshot), for as long as this object lives, or longer after
/// <see cref="Detach"/>. Pages are shared with the process until it changes them. Safe to read from many threads at once.
/// </summary>
public sealed class ProcessSnapshot : IDisposable
{
    private const int Attempts = 8;
    private const string Reading = "read the snapshot";
    private const string Opening = "open the snapshot";

    private readonly SnapshotDescription description;
    private readonly KeeperProcess keeper;
    private readonly FileDescriptor memory, pagemap;
    private readonly SnapshotRange[] ranges;
    private readonly Action? release;
    private bool disposed;

    private ProcessSnapshot(SnapshotDescription description, KeeperProcess keeper, Action? release)
    {
        this.description = description;
        this.keeper = keeper;
        this.release = release;
        ranges = [.. description.Ranges];
        memory = Files.Open(string.Create(CultureInfo.InvariantCulture, $"/proc/{keeper.Pid}/mem"), Files.O_RDONLY);
        pagemap = Files.Open(string.Create(CultureInfo.InvariantCulture, $"/proc/{keeper.Pid}/pagemap"), Files.O_RDONLY);
    }

    /// <summary>The process id and so on of what was captured.</summary>
    public SnapshotIdentity Identity => description.Identity;

    /// <summary>The process that keeps the memory.</summary>
    public int KeeperPid => keeper.Pid;

    /// <summary>The instant.</summary>
    public DateTimeOffset TakenAt => description.TakenAt;

    /// <summary>For how long the process stood still; zero in a snapshot of the own process, whose threads went on.</summary>
    public TimeSpan StopTime => description.StopTime;

    /// <summary>/proc/PID/auxv.</summary>
    public ReadOnlyMemory<byte> AuxiliaryVector => description.AuxiliaryVector;

    /// <summary>The mappings, in the order of their addresses.</summary>
    public IReadOnlyList<SnapshotRange> Ranges => description.Ranges;

    /// <summary>The threads; the first is the thread group's leader if it was alive. Empty in a snapshot of the own process.</summary>
    public IReadOnlyList<SnapshotThread> Threads => description.Threads;

    /// <summary>Open descriptors, by number.</summary>
    public IReadOnlyList<SnapshotDescriptor> Descriptors => description.Descriptors;

    /// <summary>Pages that could not be read when the snapshot was taken: behind the end of a file, poisoned. Reading them is EFAULT.</summary>
    public IReadOnlyList<PageRange> Unreadable => description.Unreadable;

    /// <summary>What a missing capability changed, one sentence each; empty in the usual case.</summary>
    public IReadOnlyList<string> Notes => description.Notes;

    /// <summary>Takes a snapshot of a process. All its threads stand still for the time that takes; it never learns of it.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="options">What to take; everything if null.</param>
    /// <exception cref="PvmmapException">
    /// ESRCH: no such process. EPERM: the caller may not ptrace it (the rule of process_vm_readv(2)). EBUSY: a debugger has it. EINVAL: it is the caller
    /// (<see cref="CaptureSelf"/>), a kernel thread, or a range is empty. EFBIG: more shared memory than allowed. ENOMEM, EAGAIN: no task or memory for the keeper.
    /// The process is as it was.
    /// </exception>
    public static ProcessSnapshot Capture(int pid, SnapshotOptions? options = null)
    {
        Processor.RequireKnown();
        if (pid == Environment.ProcessId)
            throw new PvmmapException(Errno.EINVAL, "take a snapshot", pid, hint: "a process cannot stop itself; take ranges of its memory (CaptureSelf)");
        Participant from = Participant.Open(pid, "process");
        try
        {
            from.CheckPermission();
            if (from.IsUnderSeccomp) return CaptureHeld(from, options ?? new SnapshotOptions());
            using TracerProcess tracer = new();
            return Made(SnapshotCapture.Run(from, options ?? new SnapshotOptions(), tracer), null);
        }
        finally
        {
            from.Dispose();
        }
    }

    /// <summary>
    /// Takes ranges of this process's own private memory as they are at one instant, while its threads go on: as with fork(), who writes meanwhile waits
    /// for some milliseconds. Nothing that the process does later is seen in the snapshot.
    /// </summary>
    /// <param name="ranges">Native or pinned memory, rounded outward to whole pages; all of it mapped.</param>
    /// <exception cref="PvmmapException">
    /// EFAULT: part of a range is not mapped, or belongs to the kernel. EOPNOTSUPP: it is shared memory or huge pages of the pool, of which a fork keeps no
    /// copy. ENOMEM, EAGAIN: no task or memory for the keeper.
    /// </exception>
    public static ProcessSnapshot CaptureSelf(params IReadOnlyList<PageRange> ranges)
    {
        ArgumentNullException.ThrowIfNull(ranges);
        Processor.RequireKnown();
        List<PageRange> wanted = SnapshotCapture.Joined(ranges);
        using TracerProcess tracer = new();
        for (int attempt = 0; attempt < Attempts; attempt++)
        {
            if (TakeOwn(wanted, tracer, exact: attempt > 0) is { } taken) return Made(taken, null);
        }
        throw new PvmmapException(Errno.EAGAIN, "take a snapshot", Environment.ProcessId, hint: "the process keeps changing its mappings there");
    }

    /// <summary>Opens a snapshot that was detached.</summary>
    /// <param name="keeperPid">Its keeper, as <see cref="KeeperPid"/> or <see cref="Running"/> gave it.</param>
    /// <exception cref="PvmmapException">
    /// ESRCH: there is no such process. EPERM: it may not be looked at. EINVAL: it keeps no snapshot, or another version of this library took it.
    /// EBUSY: the snapshot has not been detached.
    /// </exception>
    public static ProcessSnapshot Open(int keeperPid)
    {
        using FileDescriptor file = OpenDescription(keeperPid);
        SnapshotDescription description = SnapshotDescription.Read(file, out int owner)
            ?? throw IsNoKeeper(keeperPid);
        if (owner != 0)
            throw new PvmmapException(Errno.EBUSY, Opening, keeperPid, hint: string.Create(CultureInfo.InvariantCulture, $"it belongs to process {owner}, which has not detached it"));
        return new ProcessSnapshot(description, KeeperProcess.Open(keeperPid), null);
    }

    /// <summary>The snapshots on this machine that this process may look at and this version of the library can read, found by their keepers under /proc.</summary>
    public static IReadOnlyList<SnapshotListing> Running()
    {
        List<SnapshotListing> found = [];
        foreach (string path in Directory.EnumerateDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(path.AsSpan()), NumberStyles.None, CultureInfo.InvariantCulture, out int pid)) continue;
            try
            {
                if (ProcessStatus.Find(pid) is not { Name: KeeperProcess.Name } status) continue;
                using FileDescriptor file = OpenDescription(pid);
                if (SnapshotDescription.Read(file, out int owner) is not { } description) continue;
                found.Add(new SnapshotListing(pid, description.Identity.ProcessId, description.Identity.Name, owner, description.TakenAt, SmapsRollup.OwnBytes(pid), status.VmRSS + status.VmSwap));
            }
            catch (PvmmapException e) when (e.Errno is Errno.ESRCH or Errno.EPERM or Errno.EINVAL)
            {
                continue; // It ended while we looked, or it is not ours to look at.
            }
        }
        return found;
    }

    /// <summary>Reads memory: all of it, or nothing of it counts.</summary>
    /// <param name="address">As in the process.</param>
    /// <param name="destination">What to fill.</param>
    /// <exception cref="PvmmapException">EFAULT, with the first page that cannot be read and why. EAGAIN: the keeper was killed.</exception>
    public void Read(ulong address, Span<byte> destination)
    {
        int done = ReadSome(address, destination);
        if (done == destination.Length) return;
        ulong at = (address + (ulong)done) & ~(PageRange.PageSize - 1);
        string hint = RangeAt(at) switch
        {
            null => "nothing was mapped there, or it was not taken",
            { Reason: { } reason } range => $"{range}: {reason}",
            var range => $"{range}: the page cannot be read",
        };
        throw new PvmmapException(Errno.EFAULT, Reading, Identity.ProcessId, new PageRange(at, at + PageRange.PageSize), hint);
    }

    /// <summary>Reads from an address on what can be read without a gap.</summary>
    /// <returns>Bytes; 0 if nothing can be read there.</returns>
    /// <exception cref="PvmmapException">EAGAIN: the keeper was killed.</exception>
    public int ReadSome(ulong address, Span<byte> destination)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        int done = 0;
        while (done < destination.Length)
        {
            ulong at = address + (ulong)done;
            if (at < address || RangeAt(at) is not { Content: not SnapshotContent.Absent } range) break;
            ulong end = EndOfReadable(at, range.Range.End);
            if (end <= at) break;
            SyscallResult got = Files.Read(memory, destination.Slice(done, (int)Math.Min((ulong)(destination.Length - done), end - at)), at);
            if (got.Raw <= 0)
            {
                // What cannot be read is an error; 0 bytes are what memory has that is being taken down, for a while before the keeper has ended.
                if (got.Raw == 0 || keeper.HasEnded) throw Lost();
                break;
            }
            done += (int)got.Value;
        }
        return done;
    }

    /// <summary>A stream over a range; it can seek.</summary>
    /// <param name="address">First byte, as in the process.</param>
    /// <param name="length">Bytes; not beyond the end of the address space.</param>
    public Stream OpenRead(ulong address, ulong length)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, Math.Min((ulong)long.MaxValue, ulong.MaxValue - address));
        return new SnapshotStream(this, address, (long)length);
    }

    /// <summary>
    /// The parts of a range whose pages are in the snapshot itself, ascending and not adjacent. All others read as zeros in anonymous memory, and as the
    /// file's content in a file; they cost nothing.
    /// </summary>
    public IReadOnlyList<PageRange> Populated(PageRange range)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        List<PageRange> found = [];
        foreach (SnapshotRange part in ranges)
        {
            if (part.Content == SnapshotContent.Absent || !part.Range.Overlaps(range)) continue;
            SyscallResult scanned = PagemapScan.Populated(pagemap, part.Range.Intersect(range), filesToo: false, found);
            if (IsLost(part.Range.Start)) throw Lost();
            scanned.OrThrow(Reading, Identity.ProcessId, range);
        }
        return found;
    }

    // Asked after a look at the page tables: if there was memory then, it was all there before.
    private bool IsLost(ulong address) => keeper.HasEnded || Files.Read(memory, stackalloc byte[1], address).Raw == 0;

    private PvmmapException Lost() => new(Errno.EAGAIN, Reading, KeeperPid, hint: "its keeper was killed, and the memory is gone; take another snapshot");

    /// <summary>Brings a range of the snapshot into a live process, copy-on-write, by the call itself: so a debugger can map a process's memory into itself.</summary>
    /// <param name="targetPid">The process to map into; it may be the caller.</param>
    /// <param name="address">First byte, as in the process that was captured.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="destinationAddress">Where to map it; 0 lets the kernel choose.</param>
    /// <param name="flags">As of <see cref="ProcessVm.MmapBetween"/>, but for MOVE: a snapshot stays as it is.</param>
    /// <exception cref="PvmmapException">
    /// As of <see cref="ProcessVm.MmapBetween"/>. EFAULT also for what is not in the snapshot. EOPNOTSUPP: the process was under seccomp.
    /// </exception>
    public MmapResult MapInto(int targetPid, ulong address, ulong length, ulong destinationAddress = 0, MmapFlags flags = MmapFlags.None)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        const string mapping = "map the snapshot";
        if (flags.HasFlag(MmapFlags.Move)) throw new PvmmapException(Errno.EINVAL, mapping, hint: "MOVE would take the range out of the snapshot");
        if (!PageRange.TryRoundOutward(address, length, out PageRange wanted)) throw new PvmmapException(Errno.EINVAL, mapping, hint: "the length is 0 or passes the end of the address space");
        if (!keeper.MayStay)
            throw new PvmmapException(Errno.EOPNOTSUPP, mapping, Identity.ProcessId, wanted, "the process was under seccomp, so the keeper stands still under a tracer; read the memory instead");
        foreach (PageRange missing in Unreadable.Where(wanted.Overlaps).Concat(ranges.Where(range => range.Content == SnapshotContent.Absent && range.Range.Overlaps(wanted)).Select(range => range.Range)))
            throw new PvmmapException(Errno.EFAULT, mapping, Identity.ProcessId, missing.Intersect(wanted), RangeAt(missing.Start)?.Reason ?? "the page cannot be read");
        return ProcessVm.MmapBetween(KeeperPid, targetPid, address, length, destinationAddress, flags);
    }

    /// <summary>Has the snapshot outlive this object and this process, until <see cref="Release"/> or until somebody kills its keeper.</summary>
    /// <exception cref="PvmmapException">EOPNOTSUPP: the process was under seccomp. EAGAIN: the keeper was killed.</exception>
    public void Detach()
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        if (!keeper.MayStay) throw new PvmmapException(Errno.EOPNOTSUPP, "detach the snapshot", Identity.ProcessId, hint: Notes[0]);
        keeper.Stay();
        string path = string.Create(CultureInfo.InvariantCulture, $"/proc/{KeeperPid}/fd/{HolderFds.Control}");
        using FileDescriptor file = Files.Open(path, Files.O_RDWR);
        SnapshotDescription.Disown(file);
    }

    /// <summary>Ends the snapshot, detached or not: its memory is free when this returns.</summary>
    /// <exception cref="ObjectDisposedException">It was released or disposed of before; one that was detached is there still (<see cref="Open"/>).</exception>
    public void Release()
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        keeper.End();
        Dispose();
    }

    /// <summary>Ends the snapshot, unless it was detached.</summary>
    public void Dispose()
    {
        if (disposed) return;
        disposed = true;
        memory.Dispose();
        pagemap.Dispose();
        keeper.Dispose();
        release?.Invoke();
    }

    private static ProcessSnapshot Made((SnapshotDescription Description, KeeperProcess Keeper) taken, Action? release)
    {
        try
        {
            return new ProcessSnapshot(taken.Description, taken.Keeper, release);
        }
        catch (PvmmapException e) when (e.Errno == Errno.ESRCH)
        {
            taken.Keeper.Dispose();
            throw new PvmmapException(Errno.EAGAIN, "take a snapshot", taken.Description.Identity.ProcessId, hint: "its keeper was killed at once");
        }
        catch
        {
            taken.Keeper.Dispose();
            throw;
        }
    }

    // A keeper that may not run a step of its own stands still under the tracer, whose calling thread has to stay.
    private static ProcessSnapshot CaptureHeld(Participant from, SnapshotOptions options)
    {
        using ManualResetEventSlim made = new();
        ManualResetEventSlim done = new();
        ProcessSnapshot? snapshot = null;
        System.Runtime.ExceptionServices.ExceptionDispatchInfo? failure = null;
        Thread thread = new(() =>
        {
            try
            {
                using TracerProcess tracer = new();
                snapshot = Made(SnapshotCapture.Run(from, options, tracer), done.Set);
                made.Set();
                done.Wait();
            }
            catch (Exception e) when (snapshot is null)
            {
                failure = System.Runtime.ExceptionServices.ExceptionDispatchInfo.Capture(e);
                made.Set();
            }
            done.Dispose();
        })
        { IsBackground = true, Name = "pvmmap snapshot" };
        thread.Start();
        made.Wait();
        failure?.Throw();
        return snapshot!;
    }

    private static (SnapshotDescription Description, KeeperProcess Keeper)? TakeOwn(List<PageRange> wanted, TracerProcess tracer, bool exact)
    {
        int self = Environment.ProcessId;
        List<SourcePlan> plans = [.. wanted.Select(range => exact ? SourcePlan.FromSmaps(self, range) : SourcePlan.FromMaps(self, range))];
        foreach (SourcePiece piece in plans.SelectMany(plan => plan.Pieces))
        {
            if (piece.Kind is MemoryKind.Shared or MemoryKind.PrivateHugePages)
                throw new PvmmapException(Errno.EOPNOTSUPP, "take a snapshot", self, piece.Range, $"{piece.Mapped}: a fork keeps no copy of it; put the data into private memory");
        }
        using OwnProcess own = new();
        foreach (SourcePlan plan in plans)
        {
            if (!UserfaultfdProbe.IsGuarded(own, tracer, plan)) continue;
            if (!Duplication.CompleteFillsInto(self, plan.Range) && exact)
                throw new PvmmapException(Errno.EOPNOTSUPP, "take a snapshot", self, plan.Range, "part of the range is registered with a userfaultfd that is not ours");
            return null;
        }
        ulong mapped = SnapshotDescription.MappedBytes((2 * Maps.Read(self).Count) + 1024);
        SnapshotDescription? description = null;
        KeeperProcess keeper;
        using (ForkAdvice advice = new(own, plans.SelectMany(plan => plan.Pieces).Select(piece => (piece.Range, piece.Flags))))
        {
            keeper = KeeperProcess.ForkThisProcess(tracer, Describe, mapped);
        }
        SnapshotCapture.Settle(keeper.Pid);
        if (description is { } complete) return (complete, keeper);
        keeper.Dispose();
        return null;

        FileDescriptor Describe(int pid, PageRange image)
        {
            List<Vma> vmas = Maps.Read(pid);
            List<PageRange> drops = [.. SnapshotCapture.Drops(vmas, [.. wanted.Append(image).OrderBy(range => range.Start)], default)];
            List<SnapshotRange> ranges = [.. wanted.SelectMany(range => SnapshotArea.Describe(vmas, range))];
            SnapshotDescription made = new()
            {
                Identity = SnapshotCapture.Identify(ProcessStatus.Read(self), self),
                TakenAt = DateTimeOffset.UtcNow,
                Ranges = ranges,
            };
            bool whole = wanted.All(range => ranges.Where(part => range.Contains(part.Range)).Aggregate(0UL, (sum, part) => sum + part.Range.Length) == range.Length);
            if (whole && !(!exact && IsWiped(pid, ranges))) description = made;
            if (SnapshotDescription.MappedBytes(drops.Count) > mapped) throw new PvmmapException(Errno.EAGAIN, "take a snapshot", self, hint: "the process maps memory faster than can be followed");
            return made.Write(drops, mapped);
        }

        bool IsWiped(int pid, List<SnapshotRange> ranges)
        {
            using FileDescriptor original = Files.Open("/proc/self/pagemap", Files.O_RDONLY);
            using FileDescriptor forked = Files.Open(string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/pagemap"), Files.O_RDONLY);
            return ranges.Exists(range => !range.IsFileBacked && SnapshotCapture.IsWiped(range.Range, original, forked));
        }
    }

    private static FileDescriptor OpenDescription(int keeperPid)
    {
        // Of any other process the descriptor could be a device or a pipe, which to open is to act on it.
        if (ProcessStatus.Find(keeperPid) is { Name: not KeeperProcess.Name }) throw IsNoKeeper(keeperPid);
        SyscallResult file = Files.TryOpen(string.Create(CultureInfo.InvariantCulture, $"/proc/{keeperPid}/fd/{HolderFds.Control}"), Files.O_RDONLY);
        if (!file.Failed) return new FileDescriptor(file.Value);
        throw ProcessStatus.Find(keeperPid) is null ? new PvmmapException(Errno.ESRCH, Opening, keeperPid, hint: "no such process")
            : file.Errno is Errno.ENOENT ? IsNoKeeper(keeperPid)
            : new PvmmapException(Errno.EPERM, Opening, keeperPid, hint: "the caller may not look at it");
    }

    private static PvmmapException IsNoKeeper(int pid) => new(Errno.EINVAL, Opening, pid, hint: "it is no keeper of a snapshot; pvmmap ps lists them");

    private SnapshotRange? RangeAt(ulong address)
    {
        int low = 0, high = ranges.Length;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (ranges[middle].Range.End <= address) low = middle + 1;
            else high = middle;
        }
        return low < ranges.Length && ranges[low].Range.Start <= address ? ranges[low] : null;
    }

    private ulong EndOfReadable(ulong address, ulong end)
    {
        foreach (PageRange gap in description.Unreadable)
        {
            if (gap.End > address && gap.Start < end) return gap.Start;
        }
        return end;
    }
}
