using System.Diagnostics;
using System.Globalization;
using Pvmmap.Holder;
using Pvmmap.Linux;
using Pvmmap.Procfs;
using Pvmmap.Target;

namespace Pvmmap;

/// <summary>
/// Follows the fill of one call's destination. Only a view: the fill goes on and ends without it, and without the process that made the call.
/// Disposing it frees the view's memory and descriptors.
/// </summary>
public sealed class Duplication : IDisposable
{
    internal const string HolderName = "pvmmap-holder";

    private static readonly TimeSpan StalledAfter = TimeSpan.FromSeconds(10);

    /// <summary>Null if the kernel made the call: there is nothing to follow.</summary>
    private readonly ControlMapping? control;
    private readonly bool moved;
    private readonly FileDescriptor? holder, guardian, target;
    private readonly Lazy<Task<DuplicationState>> completion;

    internal Duplication(ControlMapping control, FileDescriptor? holder, FileDescriptor? guardian, FileDescriptor? target = null)
    {
        this.target = target;
        this.control = control;
        this.holder = holder;
        this.guardian = guardian;
        ref ControlPage page = ref control.Page;
        (SourcePid, TargetPid, HolderPid) = (page.SourcePid, page.TargetPid, page.HolderPid);
        (SourceAddress, Address, Length) = (page.TakenFrom, page.DestinationStart, page.SourceLength);
        completion = new Lazy<Task<DuplicationState>>(() => Task.Factory.StartNew(
            () => FillEnd.Await(holder, guardian, control, Timeout.InfiniteTimeSpan)!.Value,
            CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default));
    }

    /// <summary>Of a call that the kernel made: complete from the beginning.</summary>
    internal Duplication(int sourcePid, int targetPid, PageRange source, ulong address, bool moved, FileDescriptor? target)
    {
        this.target = target;
        this.moved = moved;
        (SourcePid, TargetPid, SourceAddress, Address, Length) = (sourcePid, targetPid, source.Start, address, source.Length);
        completion = new Lazy<Task<DuplicationState>>(Task.FromResult(DuplicationState.Complete));
    }

    /// <summary>The process that the range was taken from. It may have ended since.</summary>
    public int SourcePid { get; }

    /// <summary>The process that is being filled.</summary>
    public int TargetPid { get; }

    /// <summary>True if the range was moved: the source has it no longer.</summary>
    public bool IsMove => control is null ? moved : control.Page.Move != 0;

    /// <summary>The process that holds the pages, named pvmmap-holder; 0 if none was needed.</summary>
    public int HolderPid { get; }

    /// <summary>The process that watches over the holder, named pvmmap-guardian; 0 if there is none any more.</summary>
    public int GuardianPid => HolderPid == 0 ? 0 : GuardianProcess.Find(HolderPid) ?? 0;

    /// <summary>The process behind both, named pvmmap-sentinel: if holder and guardian are destroyed together, it makes missing pages raise SIGBUS. 0 if there is none.</summary>
    public int SentinelPid => control?.Page.SentinelPid ?? 0;

    /// <summary>First address taken, in the source; a multiple of the page size.</summary>
    public ulong SourceAddress { get; }

    /// <summary>First address in the target, as the call returned it.</summary>
    public ulong Address { get; }

    /// <summary>Bytes, a multiple of the page size.</summary>
    public ulong Length { get; }

    /// <summary>Where the fill stands now.</summary>
    public DuplicationState State => control is null ? DuplicationState.Complete : holder is not null && Pidfd.HasEnded(holder)
        ? FillEnd.Await(holder, guardian, control, TimeSpan.Zero) ?? FillEnd.StateOf(control) : FillEnd.StateOf(control);

    /// <summary>Bytes of populated pages that the range had at the cut. They are counted soon after the call, 64 MiB in some hundred microseconds; before that, all of the range. 0 if the kernel made the call, which delivers nothing and counts nothing.</summary>
    public ulong BytesTotal => control?.Page.BytesTotal ?? 0;

    /// <summary>Bytes not yet in place in the target.</summary>
    public ulong BytesToGo => control is null || FillEnd.StateOf(control) == DuplicationState.Complete ? 0 : BytesTotal - Math.Min(BytesTotal, Volatile.Read(ref control.Page.BytesDone));

    /// <summary>Page faults of the target (and its children) served so far.</summary>
    public ulong FaultsServed => control is null ? 0 : Volatile.Read(ref control.Page.Faults);

    /// <summary>Time since the holder began to serve; zero before that, and if there is none.</summary>
    public TimeSpan Age => control is null || control.Page.StartedAt is var started && started == 0 ? TimeSpan.Zero : Stopwatch.GetElapsedTime((long)started);

    /// <summary>Ends with the fill, with the state it ended in. A lazy fill ends when all was touched, or the target is gone.</summary>
    public Task<DuplicationState> Completion => completion.Value;

    /// <summary>Waits for the end of the fill.</summary>
    /// <returns>True if it has ended (see <see cref="State"/>), false if the time is over.</returns>
    public bool Wait(TimeSpan timeout) => control is null || FillEnd.Await(holder, guardian, control, timeout) is not null;

    /// <summary>Has a lazy fill go on in the background from now on.</summary>
    public void Finish()
    {
        if (control is not null) Interlocked.Or(ref control.Page.Command, ControlCommand.FinishNow);
    }

    /// <summary>
    /// Has the kernel join the target's pages to transparent huge pages, now that they are in place (MADV_COLLAPSE, Linux 6.1): each aligned block that
    /// has all its pages. Those that belong to no mapping of the target any more, are advised against huge pages or find none free stay as they are.
    /// </summary>
    /// <param name="progress">Told how many bytes of the range have been looked at.</param>
    /// <param name="cancellation">Ends it; what has been joined stays joined.</param>
    /// <returns>Bytes that are in huge pages.</returns>
    /// <exception cref="PvmmapException">
    /// EAGAIN: the fill has not completed, or this is the view of another caller's fill. EPERM: without CAP_SYS_NICE. EOPNOTSUPP, EINVAL: the kernel has no huge pages,
    /// or no MADV_COLLAPSE. ESRCH: the target has ended.
    /// </exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public ulong UseHugePages(IProgress<ulong>? progress = null, CancellationToken cancellation = default)
    {
        PageRange range = new(Address, Address + Length);
        if (target is null || State != DuplicationState.Complete)
            throw new PvmmapException(Errno.EAGAIN, "join pages to huge pages", TargetPid, range, target is null ? "only whoever made the call can do that" : "the fill has not completed");
        return HugePages.Collapse(target, TargetPid, range, progress, cancellation);
    }

    /// <summary>All fills under way that this process may look at, found by their holders under /proc.</summary>
    public static IReadOnlyList<Duplication> Running()
    {
        List<Duplication> running = [];
        foreach (string path in Directory.EnumerateDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(path.AsSpan()), NumberStyles.None, CultureInfo.InvariantCulture, out int pid)) continue;
            if (Open(pid) is { } duplication) running.Add(duplication);
        }
        return running;
    }

    private static Duplication? Open(int pid)
    {
        try
        {
            if (ProcessStatus.Find(pid) is not { Name: HolderName }) return null;
            FileDescriptor pidfd = Pidfd.Open(pid);
            if (ControlMapping.Open(pid) is { } control) return new Duplication(control, pidfd, GuardianProcess.Open(pid));
            pidfd.Dispose();
            return null;
        }
        catch (PvmmapException)
        {
            // It ended while we looked, or it is not ours to look at.
            return null;
        }
    }

    /// <summary>Completes every fill that still has to put pages into a range of a process, or anywhere in it (null). False if there is none.</summary>
    internal static bool CompleteFillsInto(int pid, PageRange? range)
    {
        bool found = false;
        foreach (Duplication fill in Running())
        {
            using (fill)
            {
                if (!fill.MayServe(pid, range)) continue;
                found = true;
                fill.Complete(pid, range);
            }
        }
        return found;
    }

    // However long that takes, but not if nothing happens any more: a holder may have been stopped, or wait for storage that does not answer.
    private void Complete(int pid, PageRange? range)
    {
        Finish();
        for (ulong left = BytesToGo; !Wait(StalledAfter);)
        {
            ulong before = left;
            left = BytesToGo;
            if (left < before) continue;
            throw new PvmmapException(Errno.EAGAIN, "take the source range", pid, range,
                $"a fill of it has not gone on for {StalledAfter.TotalSeconds:0} s (holder: process {HolderPid}, {left} bytes to go); see to that process, or wait");
        }
    }

    /// <summary>True if the holder owes pages to this range of the process, or to a child of its target, of which it only knows the userfaultfd.</summary>
    private bool MayServe(int pid, PageRange? wanted)
    {
        if (control is null) return false;
        if (TargetPid != pid) return control.Page.ContextCount > 1 && (wanted is null || IsDescendant(pid, TargetPid));
        if (wanted is not { } range || range.Overlaps(new PageRange(Address, Address + Length))) return true;
        foreach (ref readonly ControlSegment segment in control.Segments[..(int)Math.Min(control.Page.SegmentCount, ControlPage.MaximumSegments)])
        {
            if (segment.Length != 0 && range.Overlaps(new PageRange(segment.Destination, segment.Destination + segment.Length))) return true;
        }
        return false;
    }

    // The parent may have exited since; then its children cannot be told from strangers, and any fill with children may be the one.
    private static bool IsDescendant(int pid, int ancestor)
    {
        try
        {
            for (; pid > 1; pid = ProcessStatus.Read(pid).PPid)
            {
                if (pid == ancestor) return true;
            }
        }
        catch (PvmmapException e) when (e.Errno == Errno.ESRCH)
        {
            return true;
        }
        return !Directory.Exists(string.Create(CultureInfo.InvariantCulture, $"/proc/{ancestor}"));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (completion.IsValueCreated && !completion.Value.IsCompleted) return;
        control?.Dispose();
        holder?.Dispose();
        guardian?.Dispose();
        target?.Dispose();
    }
}
