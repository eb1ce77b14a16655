using System.Diagnostics;
using Pvmmap.Holder;
using Pvmmap.Linux;
using Pvmmap.Procfs;
using Pvmmap.Remote;
using Pvmmap.Source;
using Pvmmap.Target;

namespace Pvmmap;

/// <summary>One call: check, take from the source, place in the target. Whatever can fail comes before the one step that cannot be undone.</summary>
internal sealed class MmapCall(int sourcePid, int targetPid, PageRange source, ulong destination, MmapFlags flags)
{
    private const int Attempts = 8;

    /// <summary>Bytes up to which a range is copied at once: with so many that takes no longer than to make ready what delivers them later (./bench range).</summary>
    private const ulong Tiny = 512 << 10;

    private static readonly int Self = Environment.ProcessId;

    private readonly long startedAt = Stopwatch.GetTimestamp();
    private readonly List<string> notes = [];
    private TimeSpan sourceStopTime, targetStopTime;
    private bool sharesSource;

    /// <summary>What has been done early of what belongs to the end: this process is in the target's cgroups, the sentinel has its oom_score_adj.</summary>
    private bool together, shielded;
    private int? targetScore;

    private bool found, confirmed;

    /// <summary>The content is copied before the call returns, because that is less work than to deliver it later.</summary>
    private bool copies;
    private TracerProcess? tracer;
    private SentinelProcess? sentinel;
    private HolderPreparation? preparation;

    /// <summary>The target, for who follows the fill. Had before anything is placed: behind that, no lack of descriptors may make the call fail.</summary>
    private FileDescriptor? followed;

    /// <summary>A region that was mapped in a visit of its own, before that in which it is guarded, so that huge pages could be written into it.</summary>
    private RegionAhead? ahead;

    /// <summary>On source and target, while both stand still at once.</summary>
    private CallLock? turn;

    private PageRange Destination => new(destination, destination + source.Length);

    private TracerProcess Tracer => tracer ??= new TracerProcess();

    private HolderPreparation Preparation => preparation ??= new HolderPreparation(SettleEarly);

    public MmapResult Run()
    {
        try
        {
            StartSentinelEarly();
            using Participant from = Participant.Open(sourcePid, "source"), to = Participant.Open(targetPid, "target");
            from.CheckPermission();
            to.CheckPermission();
            Step.Begin(sourcePid, IsMove);
            SourcePlan plan = SourcePlan.FromMaps(sourcePid, source);
            if (flags.HasFlag(MmapFlags.FixedNoReplace) && Maps.Read(targetPid, Destination).Count > 0)
                throw new PvmmapException(Errno.EEXIST, "map the destination", targetPid, Destination, "something is mapped there (FIXED_NOREPLACE)");
            Step.Reached(CallStep.Checked);
            copies = IsBestCopied(plan);
            // It becomes a program of its own while the rest is made ready.
            if (!copies) sentinel ??= SentinelProcess.Start(Tracer, targetPid);
            if (IsMove || (plan.MustStandStill && !IsWithinOne)) return HoldStill(from, to, plan);
            using HolderProcess holder = Take(from, ref plan);
            // Seen only now for what it is: huge pages of a file.
            if (plan.MustStandStill && !IsWithinOne && sourcePid != Self)
            {
                holder.Dispose();
                return HoldStill(from, to, plan);
            }
            // A move is one within this process or that one: what it gives up it has in the same visit.
            Place(from, to, plan, holder, release: null, out Region region);
            return Result(region, plan, holder);
        }
        finally
        {
            sentinel?.Dispose();
            tracer?.Dispose();
            followed?.Dispose();
            ahead?.Dispose();
            preparation?.Dispose();
        }
    }

    // A move needs one whatever lies in the range, and so does what is not small: it becomes a program of its own while all is checked.
    private void StartSentinelEarly()
    {
        if (!flags.HasFlag(MmapFlags.Move) && source.Length <= Tiny) return;
        try
        {
            sentinel = SentinelProcess.Start(Tracer, targetPid);
        }
        catch (PvmmapException)
        {
            // Started again, and the error said, when it is its turn: what is wrong with the arguments comes first.
            sentinel = null;
        }
    }

    /// <summary>
    /// A move, and a copy of what does not stay in a fork. The source stands still until it is over. In a move of anonymous memory everything is made
    /// ready; then the target takes the region, and only after that, seen by the holder, the pages leave the source: who touches the region before
    /// waits. Memory of other kinds is duplicated, and unmapped in the source when the target has it and does not run yet.
    /// </summary>
    private MmapResult HoldStill(Participant from, Participant to, SourcePlan plan)
    {
        int refusals = 0;
        while (true)
        {
            StoppedProcess? stopped = null;
            turn = CallLock.Take(sourcePid, targetPid);
            try
            {
                if (sourcePid != Self) stopped = StoppedProcess.Stop(Tracer, from.Pidfd, sourcePid, everyThread: true, source);
                using IProcessCalls calls = (IProcessCalls?)stopped ?? new OwnProcess();
                bool confined = stopped?.IsUnderSeccomp ?? from.IsUnderSeccomp;
                if (stopped is not null) plan = SourcePlan.FromMaps(sourcePid, source);
                // Without a userfaultfd in the source the holder could not take away its last page from there.
                sharesSource = IsMove && !confined && plan.IsAnonymous && UserfaultfdProbe.MayHaveOne(calls);
                using HolderProcess? holder = sharesSource ? Share(from, stopped, calls, ref plan) : Duplicate(from, stopped, ref plan);
                if (holder is not null)
                {
                    using SourceRelease? release = IsMove ? new(calls, source) : null;
                    Place(from, to, plan, holder, release, out Region region);
                    stopped?.Dispose();
                    // It ends while the locks are given back.
                    tracer?.Stop();
                    EndTurn();
                    sourceStopTime += stopped?.StopTime ?? TimeSpan.Zero;
                    return Result(region, plan, holder);
                }
            }
            finally
            {
                stopped?.Dispose();
                EndTurn();
            }
            sourceStopTime += stopped?.StopTime ?? TimeSpan.Zero;
            CompleteFillsIntoSource(ref refusals);
            plan = SourcePlan.FromMaps(sourcePid, source);
        }
    }

    private CallLock? TurnTo(int pid) => turn is null ? CallLock.Take(pid) : null;

    private void EndTurn()
    {
        turn?.Dispose();
        turn = null;
    }

    // Null, here and below, if a userfaultfd guards part of the range.
    private HolderProcess? Share(Participant from, StoppedProcess? stopped, IProcessCalls calls, ref SourcePlan plan)
    {
        HolderProcess holder = stopped is null ? HolderProcess.ShareThisProcess(Tracer, calls, source, plan.Parts, from.Pidfd, from.Status.VmLck != 0, () =>
            {
                ConfirmSentinel();
                SettleEarly();
            })
            : HolderProcess.Share(stopped, from.Pidfd, source, plan.Parts);
        if (targetPid != Self) Tracer.Rouse();
        try
        {
            bool guarded = false;
            // Where the attributes could be asked for, the first page of each VMA has been registered with a userfaultfd: nobody else has done that.
            if (holder.Attributes is { } attributes && attributes.Count == plan.Parts.Count)
            {
                plan = plan.WithAttributes(sourcePid, attributes);
            }
            else
            {
                holder.AwaitReady();
                guarded = UserfaultfdProbe.IsGuarded(calls, Tracer, plan);
                if (!guarded) plan = SourcePlan.WithPolicies(sourcePid, source, holder.Pid);
            }
            if (!plan.IsAnonymous) throw new PvmmapException(Errno.EAGAIN, "take the source range", sourcePid, source, "the source keeps changing its mappings there");
            if (plan.IsSealed) throw Sealed(plan);
            Step.Reached(CallStep.RangeProbed);
            if (!guarded) return holder;
            holder.Dispose();
            return null;
        }
        catch
        {
            holder.Dispose();
            throw;
        }
    }

    // While the holder makes itself ready: this thread has nothing else to do.
    private void SettleEarly()
    {
        FindSentinel();
        together = CgroupMembership.AreTogether(Self, targetPid) && (sourcePid == Self || CgroupMembership.AreTogether(sourcePid, targetPid));
        if (!IsMove) targetScore = CgroupMembership.OutOfMemoryScore(targetPid);
        if (sentinel is null) return;
        HolderProcess.ShieldSentinel(sentinel.Pid);
        shielded = true;
    }

    // Under seccomp a holder would inherit the filter: the content is then copied from the duplicate before the call returns.
    private HolderProcess? Duplicate(Participant from, StoppedProcess? stopped, ref SourcePlan plan)
    {
        if (stopped is not null) plan = SourcePlan.FromSmaps(sourcePid, source);
        HolderProcess? holder = stopped is null ? Take(from, ref plan) : Snapshot.Take(stopped, plan, Tracer, mayGoOn: false, mayServe: true, Preparation);
        if (stopped is not null && holder is not null && Cut.Read(holder, source) is { } cut) plan = cut;
        if (!IsMove || !plan.IsSealed) return holder;
        holder?.Dispose();
        throw Sealed(plan);
    }

    private PvmmapException Sealed(SourcePlan plan)
    {
        PageRange part = plan.Pieces.First(piece => piece.Flags.HasFlag(VmFlags.Sealed)).Range;
        return new(Errno.EFAULT, "move the source range", sourcePid, source, $"the mapping at {part} is sealed against unmapping (mseal); copy it instead");
    }

    // A fill of ours that is still under way is completed first; its missing pages would look like holes. None there: it may have ended just
    // now, or its range may have been moved about, so look again, and then at every fill into this process.
    private void CompleteFillsIntoSource(ref int refusals)
    {
        if (!Duplication.CompleteFillsInto(sourcePid, refusals < 2 ? source : null) && ++refusals == 4)
        {
            const VmFlags guarded = VmFlags.UffdMissing | VmFlags.UffdWp | VmFlags.UffdMinor;
            SmapsEntry? strange = Smaps.Read(sourcePid, source).Find(entry => (entry.Flags & guarded) != 0);
            throw new PvmmapException(Errno.EOPNOTSUPP, "take the source range", sourcePid, source,
                $"{strange?.Vma.ToString() ?? "part of the range"}: it is registered with a userfaultfd that is not ours; take what lies before and behind it");
        }
    }

    /// <summary>Takes the range. The plan that comes back is that of the instant at which it was taken.</summary>
    private HolderProcess Take(Participant from, ref SourcePlan plan)
    {
        int refusals = 0;
        for (int attempt = 0; attempt < Attempts; attempt++)
        {
            HolderProcess? holder = sourcePid == Self ? Snapshot.TakeOwn(plan, Tracer, mayServe: !copies && !from.IsUnderSeccomp, SettleEarly) : TakeStopped(from, plan);
            if (holder is null)
            {
                CompleteFillsIntoSource(ref refusals);
                plan = SourcePlan.FromMaps(sourcePid, source);
                continue;
            }
            try
            {
                // The target is visited next.
                if (targetPid != Self) Tracer.Rouse();
                if (Cut.Read(holder, source) is { } cut && (plan.IsExact || !Cut.MayBeWiped(holder, sourcePid, cut)))
                {
                    plan = cut;
                    Step.Reached(CallStep.CutRead);
                    return holder;
                }
                // Something is not in the fork: withheld from it by advice, which smaps tells, or unmapped between our look and the cut.
                plan = SourcePlan.FromSmaps(sourcePid, source);
            }
            catch
            {
                holder.Dispose();
                throw;
            }
            holder.Dispose();
        }
        throw new PvmmapException(Errno.EAGAIN, "take the source range", sourcePid, source, "the source keeps changing its mappings there");
    }

    private HolderProcess? TakeStopped(Participant from, SourcePlan plan)
    {
        using CallLock? locked = TurnTo(sourcePid);
        using StoppedProcess stopped = StoppedProcess.Stop(Tracer, from.Pidfd, sourcePid, everyThread: true, default);
        try
        {
            return Snapshot.Take(stopped, plan, Tracer, mayGoOn: true, mayServe: !copies, Preparation);
        }
        finally
        {
            stopped.Dispose();
            sourceStopTime += stopped.StopTime;
        }
    }

    /// <param name="from">The source.</param>
    /// <param name="to">The target.</param>
    /// <param name="plan">What lies in the range.</param>
    /// <param name="holder">Who has its pages.</param>
    /// <param name="release">A move between two processes: what unmaps the range in the source, which stands still or is this process.</param>
    /// <param name="placed">Where they are now.</param>
    private void Place(Participant from, Participant to, SourcePlan plan, HolderProcess holder, SourceRelease? release, out Region placed)
    {
        followed ??= to.Pidfd.Duplicate();
        using MappedObjects objects = MappedObjects.Open(holder, sourcePid, from.Pidfd, plan);
        Region region = null!;
        bool inPlace = false, filled = false;
        ConfirmSentinel();
        if (HasHugePagesToKeep(to, plan, holder)) WriteHugePages(to, plan, objects, holder);
        bool visited = false;
        Action<IProcessCalls> work = target =>
        {
            using SourceRelease? within = ReleaseWithin(target);
            int undo;
            if (ahead?.Region is null)
            {
                region = Region.Map(target, plan, destination, flags, out undo);
            }
            else
            {
                undo = (region = ahead.Confirm()).AddUndo(target);
                target.Confirm();
            }
            visited = true;
            Step.Reached(CallStep.RegionMapped);
            try
            {
                filled = Furnish(target, region, plan, objects, holder, out bool mayFillLater);
                if (!filled && sentinel?.AwaitReady() == false)
                    throw new PvmmapException(Errno.EAGAIN, "start the sentinel", hint: "it was killed");
                LeaveSentinel();
                SourceRelease? releases = filled || !sharesSource ? release ?? within : null;
                releases?.Prepare();
                if (!filled && !mayFillLater && !sharesSource)
                {
                    target.ClearUndo(undo);
                    return;
                }
                Step.Reached(CallStep.SentinelReady);
                if (!filled) holder.CheckServes();
                if (sharesSource && sourcePid == Self && !filled) Tracer.Stillness = (holder.Control.StateWord, ControlState.Prepared);
                // Where it was built nobody knows of it before the call returns: it can still be taken back.
                bool replaces = region.MustMove;
                if (releases is not null) (target as StoppedProcess)?.StopTheRest();
                Commit(target, region, undo, holder, filled);
                Tracer.Stillness = null;
                inPlace = !sharesSource || filled || replaces;
                Step.Reached(CallStep.RegionCommitted);
                releases?.Unmap();
                if (!sharesSource || filled) return;
                holder.AwaitRelocation();
                inPlace = true;
                Step.Reached(CallStep.RelocationSeen);
            }
            catch when (!inPlace)
            {
                Tracer.Stillness = null;
                LeaveSentinel();
                TakeBack(target, region, undo);
                throw;
            }
        };
        try
        {
            Visit(to, flags.HasFlag(MmapFlags.Fixed) && plan.Pieces.Count > 1, work);
        }
        catch when (ahead is not null && !visited)
        {
            TakeBackAhead(to);
            throw;
        }
        placed = region;
        if (!inPlace) FillThenPlace(to, region, plan, holder, release);
        else if (sharesSource && !filled && flags.HasFlag(MmapFlags.Populate)) AwaitFill(holder, region);
    }

    private void Commit(IProcessCalls target, Region region, int undo, HolderProcess holder, bool filled)
    {
        try
        {
            region.Commit(target, undo, announce: sharesSource && !filled);
        }
        catch (PvmmapException e) when (e.Errno is Errno.EAGAIN or Errno.ESRCH && target is StoppedProcess)
        {
            // The tracer was killed over its answer.
            if (!HasCommitted((StoppedProcess)target, region, holder, filled)) throw;
            region.TakeAsPlaced();
        }
    }

    // The target has gone on by itself, through its undo entries, and has the region or not. Of one that is complete and takes the place of something else
    // nobody can tell; then the call fails, and the range is in both.
    private bool HasCommitted(StoppedProcess target, Region region, HolderProcess holder, bool filled)
    {
        if (!target.AwaitWayBack()) return false;
        if (sharesSource && !filled) return holder.HasSeenPlaced(region.Destination);
        if (region.MustMove) return !filled && holder.HasSeenPlaced(region.Destination);
        return Maps.Read(targetPid, region.Range).Sum(vma => (long)vma.Range.Intersect(region.Range).Length) == (long)region.Range.Length;
    }

    private SourceRelease? ReleaseWithin(IProcessCalls process) => IsWithinOne && flags.HasFlag(MmapFlags.Move) ? new(process, source) : null;

    // Within one process it is a duplicate whose original is unmapped: source and target cannot stand still one after the other.
    private bool IsMove => flags.HasFlag(MmapFlags.Move) && !IsWithinOne;

    // To read what is swapped out would cost more, and more than the call may.
    private bool IsBestCopied(SourcePlan plan)
    {
        if (source.Length > Tiny || (flags & (MmapFlags.Move | MmapFlags.Lazy)) != 0 || !plan.IsAnonymous) return false;
        return !Pagemap.Read(sourcePid, source).Exists(page => page.Swapped);
    }

    private bool IsWithinOne => sourcePid == targetPid;

    private void ConfirmSentinel()
    {
        if (confirmed) return;
        confirmed = true;
        FindSentinel();
        Step.Reached(CallStep.SentinelStarted);
    }

    private void FindSentinel()
    {
        if (found) return;
        string? alone = null;
        bool stands = sentinel is null || sentinel.HasStarted(out alone);
        // Only now: what has failed ahead of its turn is to be said when it comes.
        found = true;
        if (stands) return;
        notes.Add(alone!);
        LeaveSentinel();
    }

    // From here on it knows by itself when nobody serves any more; as long as we had its socket it would wait for us, and the target for it.
    private void LeaveSentinel()
    {
        sentinel?.Dispose();
        sentinel = null;
    }

    // If the way into the target is gone, the target undoes it by itself.
    private static bool TakeBack(IProcessCalls target, Region region, int undo) => Succeeds(() => region.Unmap(target, undo));

    // With the region in it, it may have no room any more for what a visit maps. A tracer that was killed is not the one to ask again.
    private void TakeBackUnvisited(Participant to, Region region, Func<bool> isStillThere)
    {
        if (targetPid == Self)
        {
            Memory.Unmap(region.Address, region.Range.Length);
            return;
        }
        using CallLock? locked = TurnTo(targetPid);
        for (int attempt = 0; attempt < 2 && !Succeeds(() => StoppedProcess.Unmap(Tracer, to.Pidfd, targetPid, region.Range, isStillThere)); attempt++)
        {
            tracer?.Dispose();
            tracer = null;
        }
    }

    // Of what is done because of an error: that is the one to report.
    private static bool Succeeds(Action undoing)
    {
        try
        {
            undoing();
            return true;
        }
        catch (PvmmapException)
        {
            return false;
        }
    }

    /// <summary>Makes the region what the source range is, and its pages the holder's business or present.</summary>
    /// <returns>True if every page is in place already.</returns>
    private bool Furnish(IProcessCalls target, Region region, SourcePlan plan, MappedObjects objects, HolderProcess holder, out bool mayFillLater)
    {
        mayFillLater = !flags.HasFlag(MmapFlags.Populate);
        ref ControlPage control = ref holder.Control.Page;
        control.SourcePid = sourcePid;
        control.TargetPid = targetPid;
        control.PlacedAt = region.Address;
        control.DestinationStart = region.Destination;
        control.Unreadable = plan.IsReadable ? 0u : 1;
        control.Lazy = flags.HasFlag(MmapFlags.Lazy) ? 1u : 0;
        if (ahead?.Region is null)
        {
            region.MapPieces(target, objects, piece => PlainCopy.HasChanged(holder, sourcePid, piece));
            notes.AddRange(region.SetPolicies(target));
        }
        else if (IsWhole(target, holder))
        {
            region.Advise(target, Memory.MADV_DOFORK);
            holder.Control.MarkComplete(holder.Control.Page.BytesDone);
            return true;
        }
        ulong written = plan.IsAnonymous ? holder.Control.Page.BytesDone : PlainCopy.WriteChanged(holder, sourcePid, plan, target, region);
        if (!plan.AnonymousRuns.Any())
        {
            region.Dress(target);
            holder.Control.MarkComplete(written);
            return true;
        }
        string? reason = Participant.FilteredSource;
        using TargetUserfaultfd? userfaultfd = holder.MayServe ? TargetUserfaultfd.Create(target, out reason) : null;
        holder.AwaitReady();
        // What a move has taken cannot be given back: not before the target can be filled behind the call.
        if (sharesSource) reason = userfaultfd?.Restriction ?? reason;
        if (userfaultfd is null || (sharesSource && userfaultfd.Restriction is not null))
        {
            if (!copies) notes.Add(reason!);
            region.MakeWritable(target);
            written += PlainCopy.Fill(holder, sourcePid, plan, target, region);
            region.Dress(target);
            holder.Control.MarkComplete(written);
            return true;
        }
        foreach (PageRange run in plan.AnonymousRuns)
        {
            Errno errno = Userfaultfd.RegisterMissing(userfaultfd.Descriptor, region.At(run));
            if (errno == Errno.None) continue;
            // If the tracer has been killed, the target has taken the region away by itself: then this says so.
            target.Confirm();
            throw new PvmmapException(errno, "guard the destination", targetPid, region.At(run));
        }
        Step.Reached(CallStep.RegionRegistered);
        if (ahead?.Region is not null)
        {
            if (Strays(holder).Any())
                throw new PvmmapException(Errno.EAGAIN, "fill the destination", targetPid, region.Range, "somebody reads, or locks, the target's memory at the same time");
            if (!region.MustMove) region.Advise(target, Memory.MADV_DOFORK);
        }
        region.Dress(target);
        Step.Reached(CallStep.RegionDressed);
        if (userfaultfd.Restriction is { } restriction)
        {
            notes.Add(restriction);
            mayFillLater = false;
        }
        if (!mayFillLater) control.Lazy = 0;
        // Until it is moved into place: a child that the target forks during the fill would keep a second copy, where it knows of none.
        if (region.MustMove && !mayFillLater && !sharesSource && ahead?.Region is null) region.Advise(target, Memory.MADV_DONTFORK);
        holder.Control.Describe(Segments(region, plan, control.SourceStart));
        Step.Reached(CallStep.RegionDescribed);
        holder.BeginServing(userfaultfd.Descriptor, sentinel, () => holder.Shield(targetPid, targetScore));
        holder.Release();
        Step.Reached(CallStep.HolderServes);
        return false;
    }

    // Only before it is guarded can a region get huge pages, where the target's page table can have them at the same places; and what is written then it must not see yet.
    private bool HasHugePagesToKeep(Participant to, SourcePlan plan, HolderProcess holder)
    {
        const VmFlags unfit = VmFlags.NoHugePage | VmFlags.GrowsDown;
        if (!flags.HasFlag(MmapFlags.Populate) || sharesSource || copies || !holder.MayServe || to.Status.VmLck != 0 || source.Length < ControlPage.HugePageBytes) return false;
        if (!plan.Pieces.All(piece => piece.IsAnonymous && piece.Protection.HasFlag(Protection.Read | Protection.Write) && (piece.Flags & unfit) == 0)) return false;
        if ((flags & (MmapFlags.Fixed | MmapFlags.FixedNoReplace)) == 0 ? destination != 0 : ((destination - source.Start) & (ControlPage.HugePageBytes - 1)) != 0) return false;
        // It gets what can write to all of the target: only if it could have that by itself.
        return (sourcePid == Self || PtraceAccess.IsAllowed(sourcePid, targetPid)) && holder.HasHugePages(source);
    }

    /// <summary>The target runs meanwhile: nobody there knows of the region.</summary>
    private void WriteHugePages(Participant to, SourcePlan plan, MappedObjects objects, HolderProcess holder)
    {
        try
        {
            Visit(to, everyThread: false, target =>
            {
                // Of the very address space that the region will be in.
                ahead = RegionAhead.TryOpen(targetPid);
                if (ahead is null) return;
                Region region = Region.Map(target, plan, destination, flags, out int undo, ahead: true);
                // Its pages would be there at once (mlockall(MCL_FUTURE)), before they can be guarded.
                if (ProcessStatus.Read(targetPid).VmLck != 0)
                {
                    TakeBack(target, region, undo);
                    return;
                }
                try
                {
                    region.MapPieces(target, objects, piece => false);
                    notes.AddRange(region.SetPolicies(target));
                    region.Dress(target);
                    region.Advise(target, Memory.MADV_DONTFORK);
                    ahead.Region = region;
                    target.ClearUndo(undo);
                    target.Confirm();
                }
                catch
                {
                    if (TakeBack(target, region, undo)) ahead.Region = null;
                    throw;
                }
            });
            if (ahead?.Region is { } there) holder.WriteHugePages(ahead.Memory, there.IsRemote ? targetPid : 0, Segments(there, plan, source.Start));
        }
        catch
        {
            TakeBackAhead(to);
            throw;
        }
    }

    private void TakeBackAhead(Participant to)
    {
        if (ahead is { IsThere: true }) TakeBackUnvisited(to, ahead.Region!, () => ahead.IsThere);
    }

    /// <summary>
    /// Whether every page is in place. If not, what is there of the others goes again: of a huge page that could not be written to its end, and zero pages, which are there
    /// as soon as a debugger reads what is not. Nobody waits for those, so that they would stay for ever.
    /// </summary>
    private bool IsWhole(IProcessCalls target, HolderProcess holder)
    {
        ref ControlPage page = ref holder.Control.Page;
        // Both: one that has just been killed has no pages either.
        if (page.BytesDone == page.BytesTotal && !holder.HasPages(source)) return true;
        foreach (PageRange stray in Strays(holder))
            target.Invoke(SystemCall.SYS_madvise, (long)stray.Start, (long)stray.Length, Memory.MADV_DONTNEED_LOCKED).OrThrow("fill the destination", targetPid, stray);
        return false;
    }

    /// <summary>What the target has of pages that the holder has still.</summary>
    private IEnumerable<PageRange> Strays(HolderProcess holder)
    {
        Region region = ahead!.Region!;
        return ahead.Present()
            .SelectMany(there => holder.Pages(new PageRange(source.Start + (there.Start - region.Address), source.Start + (there.End - region.Address))))
            .Select(region.At);
    }

    private ControlSegment[] Segments(Region region, SourcePlan plan, ulong held)
    {
        List<ControlSegment> segments = [.. plan.AnonymousRuns.Select(run =>
            new ControlSegment { Destination = region.At(run).Start, Source = held + (run.Start - source.Start), Length = run.Length })];
        if (!region.GrowsDown) return [.. segments];
        // Where the stack may grow to during the fill: new memory, zeros.
        ulong room = Math.Min(Region.GrowthRoom, region.Destination - PageRange.PageSize);
        return [.. segments, new() { Destination = region.Destination - room, Source = held, Length = room, Zero = ControlSegment.NotOurs }];
    }

    /// <summary>For POPULATE, and where the fill may not go on behind the call: nothing is replaced before every page is there.</summary>
    private void FillThenPlace(Participant to, Region region, SourcePlan plan, HolderProcess holder, SourceRelease? release)
    {
        holder.EndCall();
        DuplicationState state = holder.AwaitEnd();
        bool releases = flags.HasFlag(MmapFlags.Move);
        if (state == DuplicationState.Complete && !region.MustMove && (release is not null || !releases))
        {
            release?.Unmap();
            return;
        }
        if (state == DuplicationState.TargetGone || !IsStillThere())
        {
            // Or it took the region away by itself, when it was let go too early.
            if (targetPid != Self) Tracer.Confirm();
            throw region.Gone(targetPid);
        }
        bool visited = false;
        try
        {
            Visit(to, region.MovesInPieces || releases, target =>
            {
                if (!IsStillThere()) throw region.Gone(targetPid);
                int undo = region.AddUndo(target);
                target.Confirm();
                visited = true;
                Finish(target, undo);
            });
        }
        catch when (!visited)
        {
            TakeBackUnvisited(to, region, IsStillThere);
            throw;
        }

        // After execve() the same process is another program: nothing of ours is in it.
        bool IsStillThere() => ahead?.Region is null ? Maps.Read(targetPid, region.Range).Exists(vma => !vma.IsFileBacked) : ahead.IsThere;

        void Finish(IProcessCalls target, int undo)
        {
            if (state == DuplicationState.Complete)
            {
                using SourceRelease? within = ReleaseWithin(target);
                try
                {
                    within?.Prepare();
                    if (region.MustMove) region.Advise(target, Memory.MADV_DOFORK);
                    Commit(target, region, undo, holder, filled: true);
                }
                catch
                {
                    TakeBack(target, region, undo);
                    throw;
                }
                (release ?? within)?.Unmap();
                return;
            }
            TakeBack(target, region, undo);
            throw new PvmmapException(Errno.EAGAIN, "fill the destination", targetPid, plan.Range, "the holder was killed before every page was in place");
        }
    }

    /// <summary>For a move with POPULATE: the pages are the target's already.</summary>
    private void AwaitFill(HolderProcess holder, Region region)
    {
        holder.EndCall();
        DuplicationState state = holder.AwaitEnd();
        if (state == DuplicationState.TargetGone)
            throw new PvmmapException(Errno.ESRCH, "fill the destination", targetPid, region.Range, "the target ended, called execve or unmapped it during the fill");
        if (state == DuplicationState.Lost)
            throw new PvmmapException(Errno.EAGAIN, "fill the destination", targetPid, region.Range, "the holder was killed before every page was in place; the rest raises SIGBUS");
    }

    /// <summary>Does something in the target, of which at least one thread stands still meanwhile unless it is this process.</summary>
    private void Visit(Participant to, bool everyThread, Action<IProcessCalls> work)
    {
        using CallLock? locked = TurnTo(targetPid);
        if (targetPid == Self)
        {
            // Not to be stopped either: a fork of this process would wait for an answer of the holder, which does not serve yet.
            using OwnProcess own = new();
            work(own);
            return;
        }
        PageRange avoid = destination == 0 ? default : Destination;
        using StoppedProcess stopped = StoppedProcess.Stop(Tracer, to.Pidfd, targetPid, everyThread || to.MayHaveSigchld, avoid);
        try
        {
            work(stopped);
        }
        finally
        {
            stopped.Dispose();
            targetStopTime += stopped.StopTime;
        }
    }

    private MmapResult Result(Region region, SourcePlan plan, HolderProcess holder)
    {
        // While nothing is filled yet: after that they all need the same locks.
        tracer?.Stop();
        holder.Settle(targetPid, together, shielded);
        tracer?.Dispose();
        Duplication duplication = holder.Follow(followed!);
        followed = null;
        return new MmapResult
        {
            Address = region.Destination,
            DataAddress = region.Destination,
            Length = plan.Range.Length,
            Backend = Backend.UserSpace,
            Duplication = duplication,
            CallTime = Stopwatch.GetElapsedTime(startedAt),
            SourceStopTime = sourceStopTime,
            TargetStopTime = targetStopTime,
            Notes = notes,
        };
    }
}
