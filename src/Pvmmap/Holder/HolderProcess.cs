using Pvmmap.Linux;
using Pvmmap.Procfs;
using Pvmmap.Remote;

namespace Pvmmap.Holder;

/// <summary>
/// A new holder, from its birth to the moment it serves: it keeps the source range as it was at the cut. Until <see cref="Release"/> it ends
/// when this object is disposed, or when this process dies (its boot socket is closed, or the tracer that still holds it is gone).
/// </summary>
internal sealed unsafe class HolderProcess : IDisposable
{
    /// <summary>What the holder says over its boot socket.</summary>
    private const byte Probing = (byte)'P', Ready = (byte)'R', HugePagesFilled = (byte)'F', Serving = (byte)'S';
    private const byte Beginning = (byte)'C', Probed = (byte)'Q', FillHugePages = (byte)'H', Serve = (byte)'U', End = (byte)'E', NoRoom = (byte)'N';
    private const int Unkillable = -1000;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private static readonly TimeSpan DeparturePatience = TimeSpan.FromSeconds(5);

    private readonly FileDescriptor pidfd;
    private readonly FileDescriptor? guardian;
    private readonly bool move;
    private int? guardianPid;
    private FileDescriptor? socket;
    private bool ready, released, followed, relocated, disposed;

    /// <summary>Of a move.</summary>
    private Remnants? remnants;

    private HolderProcess(int pid, FileDescriptor pidfd, FileDescriptor? socket, ControlMapping control, bool mayServe, bool isOwn = false)
    {
        MayServe = mayServe;
        Pid = pid;
        this.pidfd = pidfd;
        this.socket = socket;
        IsOwn = isOwn;
        Control = control;
        move = control.Page.Move != 0;
        if (move) guardian = GuardianProcess.Open(GuardianPid);
    }

    public int Pid { get; }

    /// <summary>It was started out of this process, and began with its memory.</summary>
    public bool IsOwn { get; }

    /// <summary>Its guardian's number in our pid namespace; null if there is none.</summary>
    public int? GuardianPid =>
        // Where the holder knows itself by the number that it has here, its guardian's number is ours too.
        guardianPid ??= IsOwn && Control.Page.HolderOwnPid == Pid ? Control.Page.GuardianPid : GuardianProcess.Find(Pid);

    public ControlMapping Control { get; }

    /// <summary>Of a move: the attributes of each VMA of the range. Null if only the whole of smaps tells them.</summary>
    public List<SmapsEntry>? Attributes { get; private init; }

    /// <summary>False if a seccomp filter may forbid it what serving takes: its memory can be read, no more.</summary>
    public bool MayServe { get; }

    /// <summary>Turns a child that the source was made to fork into a holder.</summary>
    /// <param name="child">The child, stopped under the tracer.</param>
    /// <param name="range">The source range.</param>
    /// <param name="frozen">Leave it under the tracer, for good.</param>
    /// <param name="postpones">What else it has inherited it gives up only behind the call.</param>
    /// <param name="preparation">What it is given; completed while it settles.</param>
    public static HolderProcess Start(RemoteThread child, PageRange range, bool frozen, bool postpones, HolderPreparation preparation)
    {
        FileDescriptor pidfd = Linux.Pidfd.Open(child.Tid);
        FileDescriptor? socket = null;
        ControlMapping? control = null;
        try
        {
            if (!frozen)
            {
                HolderLoader.BeginSettling(child, postpones ? null : range);
                preparation.Complete();
                socket = HolderLoader.Load(child, pidfd, new HolderTask(range, Postpones: postpones));
            }
            control = preparation.TakeControl();
            Begin(control, child.Tid, pidfd, socket, out _);
            return new HolderProcess(child.Tid, pidfd, socket, control, !frozen);
        }
        catch
        {
            Linux.Pidfd.Kill(pidfd);
            socket?.Dispose();
            pidfd.Dispose();
            control?.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Turns a child that shares the memory of the source, which stands still, into the holder of a move. The source is as before until the
    /// target takes the region; if it never does, the holder takes itself away.
    /// </summary>
    /// <param name="source">The source.</param>
    /// <param name="sourcePidfd">Its pidfd.</param>
    /// <param name="range">What is to be moved.</param>
    /// <param name="parts">The same, VMA by VMA.</param>
    public static HolderProcess Share(StoppedProcess source, FileDescriptor sourcePidfd, PageRange range, IReadOnlyList<PageRange> parts)
    {
        RemoteThread child = source.ForkUnseen(shareMemory: true);
        FileDescriptor pidfd = Linux.Pidfd.Open(child.Tid);
        FileDescriptor? socket = null;
        ControlMapping? control = null;
        PageRange image = default;
        try
        {
            socket = HolderLoader.LoadShared(child, pidfd, new HolderTask(range, Moves: true), source, out image, out ulong mark);
            Remnants remnants = new(source, image, mark);
            control = ControlMapping.Create();
            Begin(control, child.Tid, pidfd, socket, out List<SmapsEntry>? attributes, sourcePidfd, source.Pid, parts, remnants);
            return new HolderProcess(child.Tid, pidfd, socket, control, mayServe: true) { Attributes = attributes, remnants = remnants };
        }
        catch
        {
            // Still ours: killed. Already on its own: it sees its socket close and leaves nothing behind.
            if (socket is null) Linux.Pidfd.Kill(pidfd);
            socket?.Dispose();
            Poll.Readable(pidfd, DeparturePatience);
            pidfd.Dispose();
            control?.Dispose();
            throw;
        }
    }

    /// <summary>The same for a move out of this process. No managed code runs in the holder.</summary>
    /// <param name="tracer">Whose child it is at first.</param>
    /// <param name="own">Calls in this process, for as long as the holder is this object's business.</param>
    /// <param name="range">What is to be moved.</param>
    /// <param name="parts">The same, VMA by VMA.</param>
    /// <param name="ownPidfd">This process's.</param>
    /// <param name="isLocked">Some of its memory is locked.</param>
    /// <param name="meanwhile">What can be done while the holder makes itself ready.</param>
    public static HolderProcess ShareThisProcess(
        TracerProcess tracer, IProcessCalls own, PageRange range, IReadOnlyList<PageRange> parts, FileDescriptor ownPidfd, bool isLocked, Action meanwhile) =>
        StartHere(tracer, range, mayServe: true, ownPidfd, own, parts, isLocked, meanwhile);

    /// <summary>Forks this process; the child is the holder. No managed code runs in it.</summary>
    public static HolderProcess ForkThisProcess(TracerProcess tracer, PageRange range, bool mayServe, Action meanwhile) =>
        StartHere(tracer, range, mayServe, null, meanwhile: meanwhile);

    private static HolderProcess StartHere(
        TracerProcess tracer, PageRange range, bool mayServe, FileDescriptor? sharing, IProcessCalls? own = null,
        IReadOnlyList<PageRange>? parts = null, bool isLocked = false, Action? meanwhile = null)
    {
        HolderImage code = HolderImage.InThisProcess;
        PageRange image = HolderLoader.MapHere();
        (FileDescriptor here, FileDescriptor there) = UnixSocket.Pair();
        ControlMapping? control = null;
        FileDescriptor? pidfd = null;
        Remnants? remnants = null;
        // What a holder that shares the memory leaves there, of which is not known whether it has been born: the tracer has died over it.
        Remnants? unborn = null;
        bool imageIsOurs = true;
        try
        {
            HolderBootArguments arguments = HolderLoader.PrepareHere(image, new HolderTask(range, sharing is not null), there.Number, out ulong top);
            PageRange probes = default;
            tracer.BeginFork(sharing is not null, top, code.At(image.Start).Boot, top);
            // One that shares the memory runs on this very image, and unmaps it when it leaves.
            imageIsOurs = sharing is null;
            if (sharing is not null) unborn = new Remnants(own!, image, arguments.Mark);
            SyscallResult forked;
            try
            {
                if (sharing is not null)
                {
                    // This process has the same memory: the holder need not be born for that, and waits for it soon.
                    control = ControlMapping.Create();
                    probes = Introduce(control, here, Environment.ProcessId, sharing, Environment.ProcessId, parts, isLocked);
                }
            }
            finally
            {
                forked = tracer.AwaitForked();
                imageIsOurs |= forked.Failed;
                if (!forked.Failed) pidfd = Linux.Pidfd.Open((int)forked.Value);
            }
            int pid = (int)forked.OrThrow("fork the holder", hint: "no task or no memory: RLIMIT_NPROC, pids.max, overcommit");
            (remnants, unborn) = (unborn, null);
            Step.Reached(CallStep.IntermediateReaped, pid);
            there.Dispose();
            if (control is null)
            {
                control = ControlMapping.Create();
                Introduce(control, here, pid, null, 0, null, isLocked: false);
            }
            control.Page.HolderPid = pid;
            meanwhile?.Invoke();
            UnmapImage();
            AwaitStart(control, here, pidfd!, pid, Environment.ProcessId, probes, remnants, out List<SmapsEntry>? attributes);
            return new HolderProcess(pid, pidfd!, here, control, mayServe, isOwn: true) { Attributes = attributes, remnants = remnants };
        }
        catch
        {
            there.Dispose();
            if (unborn is not null && !imageIsOurs) ClearBehind(unborn, here, control);
            if (control is not null) ClearIfKilled(remnants, here, control);
            // The holder, if there is one, sees its socket close and ends.
            here.Dispose();
            if (sharing is not null && pidfd is not null) Poll.Readable(pidfd, DeparturePatience);
            pidfd?.Dispose();
            control?.Dispose();
            throw;
        }
        finally
        {
            UnmapImage();
        }

        void UnmapImage()
        {
            if (imageIsOurs) Memory.Unmap(image.Start, image.Length);
            imageIsOurs = false;
        }
    }

    private static void Begin(
        ControlMapping control, int pid, FileDescriptor pidfd, FileDescriptor? socket, out List<SmapsEntry>? attributes, FileDescriptor? sharedSource = null, int sourcePid = 0,
        IReadOnlyList<PageRange>? parts = null, Remnants? remnants = null)
    {
        attributes = null;
        try
        {
            control.Page.HolderPid = pid;
            if (socket is null)
            {
                Step.ControlMade(control.File!);
                return;
            }
            bool isLocked = sharedSource is not null && ProcessStatus.Read(sourcePid).VmLck != 0;
            PageRange probes = Introduce(control, socket, pid, sharedSource, sourcePid, parts, isLocked);
            AwaitStart(control, socket, pidfd, pid, sourcePid, probes, remnants, out attributes);
        }
        catch
        {
            ClearIfKilled(remnants, socket, control);
            throw;
        }
    }

    /// <summary>Sends the holder what it begins with. It need not exist yet.</summary>
    /// <param name="control">The control page.</param>
    /// <param name="socket">Our end of its socket.</param>
    /// <param name="memory">A process that has the holder's memory.</param>
    /// <param name="sharedSource">Of a move: the source's pidfd.</param>
    /// <param name="sourcePid">Of a move: its number.</param>
    /// <param name="parts">Of a move: the source range, VMA by VMA.</param>
    /// <param name="isLocked">Of a move: some of the source's memory is locked.</param>
    /// <returns>Where the attributes of the source's VMAs can be read when the holder says so.</returns>
    private static PageRange Introduce(
        ControlMapping control, FileDescriptor socket, int memory, FileDescriptor? sharedSource, int sourcePid, IReadOnlyList<PageRange>? parts, bool isLocked)
    {
        PageRange probes = default;
        Step.ControlMade(control.File!);
        using FileDescriptor pagemap = Files.Open($"/proc/{memory}/pagemap", Files.O_RDONLY);
        if (sharedSource is null)
        {
            UnixSocket.Send(socket, Beginning, control.File!, pagemap);
        }
        else
        {
            using FileDescriptor proc = Files.Open("/proc", Files.O_RDONLY);
            // Elsewhere the numbers that /proc here shows mean nothing: then the source's memory is kept until the fill is done.
            if (memory == Environment.ProcessId || IsInOurPidNamespace(memory)) control.Page.SourceOwnPid = sourcePid;
            if (!isLocked) probes = AskForProbes(control, sourcePid, parts!);
            UnixSocket.Send(socket, Beginning, control.File!, pagemap, sharedSource, proc);
        }
        Step.Reached(CallStep.ControlSent);
        return probes;
    }

    private static void AwaitStart(
        ControlMapping control, FileDescriptor socket, FileDescriptor pidfd, int pid, int sourcePid, PageRange probes, Remnants? remnants, out List<SmapsEntry>? attributes)
    {
        attributes = null;
        control.TouchTables();
        if (Expect(socket, pidfd, pid, control, Ready, remnants is null ? (byte)0 : Probing) == Ready)
        {
            Step.Reached(CallStep.HolderReady);
            return;
        }
        Dictionary<ulong, MemoryPolicy> policies = sourcePid == Environment.ProcessId && HasNoPolicy(control) ? [] : NumaMaps.ReadFirst(pid, probes);
        attributes = [.. Smaps.ReadFirst(sourcePid, probes).Where(entry => (entry.Vma.Range.Start - probes.Start) / PageRange.PageSize % 2 == 0)
            .Select(entry => entry with { Policy = policies.GetValueOrDefault(entry.Vma.Range.Start) })];
        // It brings the pages back now, and needs nobody for that.
        UnixSocket.Send(socket, Probed);
    }

    // This process can be asked without a walk over the first mappings, and mostly has none.
    private static bool HasNoPolicy(ControlMapping control)
    {
        foreach (ref readonly ControlSegment part in control.Segments[..(int)control.Page.SegmentCount])
            if (!MemoryPolicy.IsDefaultHere(part.Destination)) return false;
        return true;
    }

    // Killed, guardian and all: only then is the socket closed there. Whoever lives cleans up by itself.
    private static void ClearIfKilled(Remnants? remnants, FileDescriptor? socket, ControlMapping control)
    {
        if (remnants is not null && Poll.Readable(socket!, DeparturePatience) && UnixSocket.Receive(socket!) is null) remnants.Clear(control, giveBack: true);
    }

    // It gives the range back and goes when it is hung up on; then whatever is there still is nobody's. An image that is left is better than one that
    // is unmapped under somebody who has a page of the range.
    private static void ClearBehind(Remnants unborn, FileDescriptor socket, ControlMapping? control)
    {
        if (UnixSocket.HangUp(socket, DeparturePatience) && control is not null) unborn.Clear(control, giveBack: true);
    }

    private static bool IsInOurPidNamespace(int pid) =>
        new FileInfo($"/proc/{pid}/ns/pid").LinkTarget is { } theirs && theirs == new FileInfo("/proc/self/ns/pid").LinkTarget;

    /// <summary>Waits until the source is as it was, if its attributes were asked for. Of a move, and before anything is the target's.</summary>
    public void AwaitReady()
    {
        if (Attributes is null || ready) return;
        Expect(socket!, pidfd, Pid, Control, Ready);
        ready = true;
        Step.Reached(CallStep.HolderReady);
    }

    /// <summary>Whether there are transparent huge pages in what it holds. False where the kernel does not tell (PAGEMAP_SCAN, Linux 6.7).</summary>
    public bool HasHugePages(PageRange range)
    {
        using FileDescriptor pagemap = OpenPagemap();
        return PagemapScan.AnyHuge(pagemap, range).Raw > 0;
    }

    /// <summary>Whether anything is left in what it holds.</summary>
    public bool HasPages(PageRange range)
    {
        using FileDescriptor pagemap = OpenPagemap();
        return PagemapScan.AnyPopulated(pagemap, range).Raw != 0;
    }

    /// <summary>What is left.</summary>
    public List<PageRange> Pages(PageRange range)
    {
        using FileDescriptor pagemap = OpenPagemap();
        return PagemapScan.Populated(pagemap, Pid, range, PagemapScan.PAGE_IS_PFNZERO);
    }

    private FileDescriptor OpenPagemap()
    {
        SyscallResult opened = Files.TryOpen($"/proc/{Pid}/pagemap", Files.O_RDONLY);
        return opened.Failed ? throw Killed() : new FileDescriptor(opened.Value);
    }

    private PvmmapException Killed() => new(Errno.EAGAIN, "fill the destination", Pid, hint: "the holder was killed before every page was in place");

    /// <summary>Has the holder write its huge pages into the region, which nobody guards yet. What it could not write it still has.</summary>
    /// <param name="targetMemory">The target's mem, open for writing.</param>
    /// <param name="remotePid">The target, if the region lies where the next program of the same process would have nothing; 0 otherwise.</param>
    /// <param name="segments">Where the region is.</param>
    public void WriteHugePages(FileDescriptor targetMemory, int remotePid, ReadOnlySpan<ControlSegment> segments)
    {
        Control.Describe(segments);
        // Elsewhere the number would be another's.
        if (remotePid != 0 && IsInOurPidNamespace(Pid)) Control.Page.TargetOwnPid = remotePid;
        UnixSocket.Send(socket!, FillHugePages, targetMemory);
        // It may take as long as it likes, while it lives.
        while (!Poll.Readable(socket!, DeparturePatience) && !Linux.Pidfd.HasEnded(pidfd))
        {
        }
        if (Poll.Readable(socket!, DeparturePatience) && UnixSocket.Receive(socket!) == HugePagesFilled) return;
        throw Killed();
    }

    /// <summary>Gives the holder the target's userfaultfd; when this returns, holder and guardian stand and faults are served.</summary>
    /// <param name="userfaultfd">The target's.</param>
    /// <param name="sentinel">Who gets it too.</param>
    /// <param name="meanwhile">What can be done while they make themselves ready.</param>
    public void BeginServing(FileDescriptor userfaultfd, SentinelProcess? sentinel, Action meanwhile)
    {
        if (sentinel is null)
        {
            UnixSocket.Send(socket!, Serve, userfaultfd);
        }
        else
        {
            Control.Page.SentinelPid = sentinel.Pid;
            // In this order: what the holder tells it of the target's children must not be the first that it hears.
            sentinel.Watch(Control.File!, userfaultfd);
            UnixSocket.Send(socket!, Serve, userfaultfd, sentinel.Lifeline);
        }
        meanwhile();
        Expect(socket!, pidfd, Pid, Control, Serving);
    }

    /// <summary>Wants the first VMAs of smaps to be those of the range. Where they will be; empty if there is no room.</summary>
    private static PageRange AskForProbes(ControlMapping control, int sourcePid, IReadOnlyList<PageRange> parts)
    {
        const ulong lowest = 0x10000; // vm.mmap_min_addr as it usually is
        int count = parts.Count;
        ulong length = 2 * (ulong)count * PageRange.PageSize;
        if (count > ControlPage.MaximumProbes || Maps.Lowest(sourcePid) is not { } bottom || bottom < lowest + length) return default;
        for (int i = 0; i < count; i++) control.Segments[i].Destination = parts[i].Start;
        control.Page.SegmentCount = (uint)count;
        control.Page.ProbeArea = lowest;
        return new PageRange(lowest, lowest + length - PageRange.PageSize);
    }

    private static byte Expect(FileDescriptor socket, FileDescriptor pidfd, int pid, ControlMapping control, byte message, byte orElse = 0)
    {
        byte? received = Poll.Readable(socket, Patience) ? UnixSocket.Receive(socket) : null;
        if (received is null || (received != message && received != orElse))
        {
            SyscallResult error = new(control.Page.LastError);
            if (error.Errno is Errno.ENOMEM || received == NoRoom)
                throw new PvmmapException(Errno.ENOMEM, "start the holder", pid, hint: "the source's map count or RLIMIT_AS leaves no place to keep the pages");
            if (error.Errno is Errno.EAGAIN)
                throw new PvmmapException(Errno.EAGAIN, "start the guardian", pid, hint: "no task can be created: RLIMIT_NPROC or pids.max");
            throw new PvmmapException(Errno.EAGAIN, "start the holder", pid,
                hint: Linux.Pidfd.HasEnded(pidfd) ? "it ended before it could serve (killed, or no memory or task for it)" : "it does not answer");
        }
        return received.Value;
    }

    /// <summary>From now on the holder ends by itself.</summary>
    public void Release() => released = true;

    /// <summary>The last look before the target takes the region.</summary>
    public void CheckServes()
    {
        if (Linux.Pidfd.HasEnded(pidfd) && (!move || guardian is null || Linux.Pidfd.HasEnded(guardian)))
            throw new PvmmapException(Errno.EAGAIN, "fill the destination", Pid, hint: "the holder was killed before the target had the region");
    }

    /// <summary>Waits, behind the target's taking of the region, until the source has the range no longer.</summary>
    public void AwaitRelocation()
    {
        while (Volatile.Read(ref Control.Page.State) == ControlState.Prepared)
        {
            if (Linux.Pidfd.HasEnded(pidfd) && (guardian is null || Linux.Pidfd.HasEnded(guardian)))
                throw new PvmmapException(Errno.EAGAIN, "take the source range", Pid, hint: "holder and guardian were killed; the source has its memory still");
            Control.AwaitChangeOfState(ControlState.Prepared, TimeSpan.FromMilliseconds(20));
        }
        if (Control.Page.Moved < Control.Page.SourceLength && Control.Page.State == ControlState.Lost)
            throw new PvmmapException(Errno.EAGAIN, "take the source range", Pid, hint: "holder and guardian were killed; the source has its memory still");
        relocated = true;
    }

    /// <summary>
    /// Whether the target has taken the region, of a call that lost its answer: the holder has seen it at its place, or, in a move, has taken the range out of
    /// the source. False if it has seen it unmapped, and after a while in which it saw nothing: then the target does not run.
    /// </summary>
    public bool HasSeenPlaced(ulong destination)
    {
        ref ControlPage page = ref Control.Page;
        for (long begin = Environment.TickCount64; Environment.TickCount64 - begin < DeparturePatience.TotalMilliseconds;)
        {
            uint state = Volatile.Read(ref page.State);
            if (ControlState.IsFinal(state)) return false;
            if (move && state != ControlState.Prepared) return true;
            if (!move && page.SegmentCount > 0 && Volatile.Read(ref Control.Segments[0].Destination) == destination) return true;
            Control.AwaitChangeOfState(state, TimeSpan.FromMilliseconds(1));
        }
        return false;
    }

    /// <summary>The kernel shall rather kill the target than who holds its pages. Those that share the source's memory share its oom_score_adj too, which is left alone.</summary>
    /// <param name="targetPid">The target.</param>
    /// <param name="targetScore">Its oom_score_adj, if it has been read already.</param>
    public void Shield(int targetPid, int? targetScore)
    {
        if (move) return;
        if (GuardianPid is { } guard) CgroupMembership.ShieldFromOutOfMemory(guard, Unkillable);
        if ((targetScore ?? CgroupMembership.OutOfMemoryScore(targetPid)) is { } score) CgroupMembership.ShieldFromOutOfMemory(Pid, score);
    }

    /// <summary>Puts the fill's processes where an administrator would want them: they go with the target, not with the source.</summary>
    /// <param name="targetPid">The target.</param>
    /// <param name="together">This process and the source are in the target's cgroups, and what they have started is where they are.</param>
    /// <param name="shielded"><see cref="ShieldSentinel"/> has been called.</param>
    public void Settle(int targetPid, bool together, bool shielded)
    {
        if (!released) return;
        int sentinelPid = Control.Page.SentinelPid;
        int[] pair = GuardianPid is { } second ? [Pid, second] : [Pid];
        // The sentinel is where this process is, and so is a holder that this process has started.
        int[][] families = sentinelPid == 0 ? [pair] : IsOwn ? [[.. pair, sentinelPid]] : [pair, [sentinelPid]];
        if (!together) CgroupMembership.Adopt(families, targetPid);
        if (sentinelPid != 0 && !shielded) ShieldSentinel(sentinelPid);
    }

    /// <summary>The sentinel is to be there when memory has run out; it has next to none itself.</summary>
    public static void ShieldSentinel(int sentinelPid) => CgroupMembership.ShieldFromOutOfMemory(sentinelPid, Unkillable);

    /// <summary>Lets the background fill begin: the call is made, but for the pages.</summary>
    public void EndCall()
    {
        if (socket is null) return;
        // Said, not only hung up: a child that this process has forked meanwhile may hold the socket too.
        UnixSocket.Send(socket, End);
        socket.Dispose();
        socket = null;
    }

    /// <summary>Waits for the end of the fill.</summary>
    public DuplicationState AwaitEnd() => FillEnd.Await(pidfd, guardian, Control, Timeout.InfiniteTimeSpan)!.Value;

    /// <summary>Hands the view of the fill on; the holder is no longer this object's business.</summary>
    /// <param name="target">A pidfd of the target, which goes with it.</param>
    public Duplication Follow(FileDescriptor target)
    {
        followed = true;
        return new Duplication(Control, pidfd, guardian, target);
    }

    /// <summary>Lets go of the holder; kills it if it was never released.</summary>
    public void Dispose()
    {
        if (disposed) return;
        disposed = true;
        if (!released && !move) Linux.Pidfd.Kill(pidfd);
        EndCall();
        Control.CloseFile();
        if (followed) return;
        // One that shares the source's memory clears it up before it ends.
        if (move && !Poll.Readable(pidfd, DeparturePatience)) Linux.Pidfd.Kill(pidfd);
        if (Linux.Pidfd.HasEnded(pidfd) && (guardian is null || Linux.Pidfd.HasEnded(guardian))) remnants?.Clear(Control, giveBack: !relocated);
        Control.Dispose();
        pidfd.Dispose();
        guardian?.Dispose();
    }
}
