using System.Globalization;
using System.Text.RegularExpressions;
using Pvmmap.ConformanceTests.Stage;
using Pvmmap.Holder;

namespace Pvmmap.ConformanceTests.Survival;

/// <summary>Plays one cell with processes of its own and says what came of it: a word of <see cref="Outcome"/>, or BAD and why.</summary>
internal sealed partial class CellRun : IDisposable
{
    private const ulong Page = PageRange.PageSize, SourceAddress = 0x2000_0000_0000, FixedDestination = 0x3000_0000_0000, MovedTo = 0x3100_0000_0000;
    private const ulong SourceSeed = 1, TargetSeed = 2;
    private const ulong DeedPage = 32, DeedPages = 64;
    private const int StraySeconds = 5;

    private readonly Theatre _theatre;
    private readonly Cell _cell;
    private readonly SteppedCaller _caller;
    private readonly Puppet? _source, _target;

    /// <summary>With the range, and without.</summary>
    private readonly (ProcessRecord Whole, ProcessRecord Others) _sourceBefore, _targetBefore;
    private readonly List<Namesake> _marks = [];
    private readonly HashSet<int> _cast = [];
    private readonly SteppedCall _call;
    private int _child;

    /// <summary>Mappings of ours in the source.</summary>
    private string? _left;

    public CellRun(Theatre theatre, Cell cell)
    {
        _theatre = theatre;
        _cell = cell;
        if (cell.Way != Way.Push) _source = MakeSource();
        if (cell.Way != Way.Pull) _target = MakeTarget();
        if (_source is not null) _sourceBefore = (ProcessRecord.TakeAtRest(_source.Pid), ProcessRecord.Take(_source.Pid, SourceRange));
        if (_target is not null) _targetBefore = (ProcessRecord.TakeAtRest(_target.Pid), ProcessRecord.Take(_target.Pid, FixedRange));
        _call = new SteppedCall(_source?.Pid ?? 0, _target?.Pid ?? 0, SourceAddress, cell.Pages, $"{cell.CallStep}")
        {
            Pieces = cell.Pieces, Destination = IsFixed ? FixedDestination : 0, Flags = cell.Flags, FillStep = StopsLater ? FillStep.None : cell.FillStep,
        };
        _caller = new SteppedCaller(theatre, _call, "unshare", "--uts");
        _cast.Add(_caller.Pid);
        _marks.Add(new Namesake(_caller.Pid));
    }

    /// <summary>Steps that the call itself may pass too: the stop is set when it has returned.</summary>
    private bool StopsLater => _cell.Deed is not null || _cell.NeedsHolderDead;

    private ulong Length => _cell.Pages * Page;

    private PageRange SourceRange => new(SourceAddress, SourceAddress + Length);

    private PageRange FixedRange => new(FixedDestination, FixedDestination + Length);

    private bool IsFixed => _cell.Flags.HasFlag(MmapFlags.Fixed);

    private int SourcePid => _source?.Pid ?? _caller.Pid;

    private int TargetPid => _target?.Pid ?? _caller.Pid;

    private int HolderPid => (int)_caller.Read(nameof(ControlPage.HolderPid)) is var pid && pid != 0 ? pid : _caller.Holder;

    private int GuardianPid => (int)_caller.Read(nameof(ControlPage.GuardianPid));

    private ulong Destination => IsFixed ? FixedDestination : _caller.Read(nameof(ControlPage.DestinationStart));

    /// <summary>How to do it by hand.</summary>
    public string Reproduction =>
        $"{_cell}: source and target are puppets with {_cell.Pages} pages in {_cell.Pieces} mappings at 0x{SourceAddress:x}, 0x{FixedDestination:x}; then\n"
        + $"    {SteppedCaller.Program} {string.Join(' ', _call.Arguments(_theatre.Door))}";

    public string Play()
    {
        string word = Judge();
        return word.StartsWith(Outcome.Bad, StringComparison.Ordinal) || word == Outcome.NotThere || Outcome.Allowed(_cell).Contains(word)
            ? word : $"{Outcome.Bad}: {word}{_left}";
    }

    private string Judge()
    {
        _caller.Say("call");
        string[]? done = null;
        if (Reach(ref done) is { } failure) return failure;
        List<int> victims = [.. Victims().Where(ProcessStatus.IsAlive)];
        if (victims.Count == 0) return Outcome.NotThere;
        foreach (int pid in victims) Kill(pid);
        if (_caller.HasControl) _caller.LetFillGoOn();

        bool callerLives = !victims.Contains(_caller.Pid);
        if (callerLives && done is null)
        {
            if (_cell.CallStep != CallStep.None) _caller.Say("go");
            done = _caller.Hear("done");
            if (done is null) return Bad("the call does not return");
        }
        if (_cell.Deed is not null && !_cell.KillsTarget && !DeedIsDone()) return Bad("the target hangs in what it did");
        if (_caller.HasControl) _caller.FinishFill();
        if (Settle() is { } unsettled) return unsettled;
        return Compare(callerLives ? done : null);
    }

    /// <summary>Brings everybody to the step. Returns what is wrong if that fails.</summary>
    private string? Reach(ref string[]? done)
    {
        if (_cell.CallStep != CallStep.None)
        {
            string[]? answer = _caller.Hear("at", "done");
            return answer is null ? Bad("the call does not come to its step") : answer[0] == "done" ? Bad($"the call ended before its step: {string.Join(' ', answer)}") : null;
        }
        if (StopsLater)
        {
            done = _caller.Hear("done");
            if (done is null || done[2] != "0") return Bad($"the call failed before its step: {string.Join(' ', done ?? [])}");
            _caller.StopFillAt(_cell.FillStep);
            if (_cell.NeedsHolderDead) Kill(HolderPid);
            else Do(_cell.Deed!);
        }
        return _caller.AwaitFill(_cell.FillStep) ? null : Bad("the fill does not come to its step");
    }

    private IEnumerable<int> Victims() => _cell.Victim switch
    {
        Victim.Caller => [_caller.Pid],
        Victim.Source => [SourcePid],
        Victim.Target => [TargetPid],
        Victim.Holder => [HolderPid],
        Victim.Guardian => [GuardianPid],
        // The guardian first: it would begin its work.
        _ => [GuardianPid, HolderPid],
    };

    private static void Kill(int pid)
    {
        Libc.Kill(pid, Libc.SIGKILL);
        Eventually.Becomes(() => !ProcessStatus.IsAlive(pid), seconds: StraySeconds);
    }

    // ---- what the target does ----

    private void Do(string deed)
    {
        ulong at = FixedDestination + DeedPage * Page, length = DeedPages * Page;
        if (_target is null)
        {
            _caller.Say(deed switch { "remap" => $"remap {at} {length} {MovedTo}", "touch" => $"touch {at}", "fork" => "fork", _ => $"{deed} {at} {length}" });
            return;
        }
        switch (deed)
        {
            case "touch": _target.Post($"verify {at} {Page} {SourceSeed} {DeedPage} 1"); break;
            case "fork": _target.Post($"fork"); break;
            case "remap": _target.Post($"syscall {Sys.mremap} {at} {length} {length} 3 {MovedTo} 0"); break;
            case "drop": _target.Post($"syscall {Sys.madvise} {at} {length} {(int)Madv.DontNeed} 0 0 0"); break;
            default: _target.Post($"syscall {Sys.munmap} {at} {length} 0 0 0 0"); break;
        }
    }

    private bool DeedIsDone()
    {
        if (_target is null)
        {
            if (_cell.Deed == "fork") _child = _caller.Child();
            return _caller.Hear("acted") is not null;
        }
        try
        {
            string[] answer = _target.Answer();
            if (_cell.Deed == "fork") _child = int.Parse(answer[0], CultureInfo.InvariantCulture);
        }
        catch (InvalidOperationException)
        {
            return false;
        }
        if (_child != 0) _cast.Add(_child);
        return true;
    }

    // ---- afterwards ----

    private string? Settle()
    {
        int[] people = [SourcePid, TargetPid, _caller.Pid];
        string wrong = "";
        if (_child != 0) _cast.Add(_child);
        bool settled = Eventually.Becomes(() =>
        {
            wrong = string.Join(", ", Restless().Concat(Strays().Select(pid => $"{ProcessStatus.Name(pid)} {pid} is left"))
                .Concat(people.Distinct().Where(ProcessStatus.IsAlive).SelectMany(ProcessStatus.Restraints)));
            return wrong.Length == 0;
        }, StraySeconds);
        return settled ? null : Bad(wrong);
    }

    // A puppet that is let go may have something of ours to undo before it waits for its next line (recvfrom).
    private IEnumerable<string> Restless() => new[] { _source, _target }.OfType<Puppet>().Where(puppet => ProcessStatus.IsAlive(puppet.Pid) && !IsAtRest(puppet.Pid))
        .Select(puppet => $"puppet {puppet.Pid} does not come to rest");

    private static bool IsAtRest(int pid)
    {
        try
        {
            return File.ReadAllText($"/proc/{pid}/syscall").StartsWith("45 ", StringComparison.Ordinal);
        }
        catch (IOException)
        {
            return false;
        }
    }

    // What the call started has the UTS namespace of one of the cast, which nobody else has.
    private List<int> Strays() => [.. _marks.SelectMany(mark => mark.Living).Where(pid => !_cast.Contains(pid) && !IsOwnChild(pid))];

    // The child that a target had just forked when it was killed.
    private bool IsOwnChild(int pid) => _cell.Deed == "fork" && ProcessStatus.Name(pid) is "puppet" or "StepCaller";

    private string Compare(string[]? done)
    {
        bool? succeeded = done is null ? null : done[2] == "0";
        string? source = _cell.KillsSource ? null : SourceState();
        bool remnants = source?.EndsWith(Outcome.Remnants, StringComparison.Ordinal) == true;
        if (remnants) source = source![..^Outcome.Remnants.Length];
        string word = CompareTargetWith(source, done, succeeded);
        return remnants ? word + Outcome.Remnants : word;
    }

    private string CompareTargetWith(string? source, string[]? done, bool? succeeded)
    {
        if (source?.StartsWith(Outcome.Bad, StringComparison.Ordinal) == true) return source;
        if (source == Outcome.TwoPages) return source;
        if (!_cell.Move && source is not (null or Outcome.AsFound)) return Bad($"the source of a copy has lost its range");
        if (_cell.KillsTarget) return _cell.Move && source == Outcome.AsFound ? Outcome.SourceKeeps : Outcome.Gone;
        string target = TargetState();
        string said = done is null ? "" : $"; the call said {string.Join(' ', done)}";
        if (target.StartsWith(Outcome.Bad, StringComparison.Ordinal)) return target + said;
        if (target == Outcome.TwoPages) return target;
        bool arrived = target != Outcome.AsFound;
        if (_cell is { LosesAll: true, Move: true } && succeeded == false && target == Outcome.SigBus && source == Outcome.AsFound) return Outcome.SourceKeepsAll;
        if (succeeded is { } ok && ok != arrived) return Bad($"target {target}{said}");
        if (_cell.Move && source is not null && arrived == (source == Outcome.AsFound)) return Bad($"source {source}, target {target}{said}");
        return target;
    }

    /// <summary>As found, or gone (of a move).</summary>
    private string SourceState()
    {
        List<Vma> there = Smaps.Within(SourcePid, SourceAddress, Length);
        bool released = there.Count == 0;
        if (!released)
        {
            if (RemoteContent.Examine(SourcePid, SourceAddress, _cell.Pages, SourceSeed, 0) is not { } seen) return Bad("a page of the source does not come");
            // A caller's runtime may have mapped something else there at once.
            if (_source is null && seen.Good == 0) released = true;
            else if (seen.Good != _cell.Pages) return Bad($"the source has {seen}");
        }
        if (_source is null)
        {
            if (Remnants(SourcePid) is { Length: > 0 } mappings) _left = $":\n{mappings}";
            return (released ? Outcome.Complete : Outcome.AsFound) + (_left is null ? "" : Outcome.Remnants);
        }
        string difference = released ? Difference(_sourceBefore.Others, SourceRange) : Difference(_sourceBefore.Whole);
        if (IsTwoPages(difference)) return Outcome.TwoPages;
        if (_cell.Move && IsOurs(difference)) _left = $":\n{difference}";
        if (_left is not null) return (released ? Outcome.Complete : Outcome.AsFound) + Outcome.Remnants;
        return difference.Length > 0 ? Bad($"the source is not as found:\n{difference}") : released ? Outcome.Complete : Outcome.AsFound;
    }

    // Of the caller, whose memory changes by itself: a control page of a call is no remnant, what lies behind its end is.
    private static string Remnants(int pid) => string.Join('\n', File.ReadLines($"/proc/{pid}/maps")
        .Where(line => line.Contains("pvmmap-", StringComparison.Ordinal) && !line.Contains(" 00000000 ", StringComparison.Ordinal)));

    private string TargetState()
    {
        ulong at = Destination;
        PageRange range = new(at, at + Length);
        bool there = at != 0 && Smaps.Within(TargetPid, at, Length).Count > 0;
        string state = there ? RegionState(at) : Outcome.AsFound;
        if (state.StartsWith(Outcome.Bad, StringComparison.Ordinal)) return state;
        if (!there && IsFixed) return Bad("nothing is mapped at the destination");
        bool asFound = state == Outcome.AsFound;
        string? child = _child == 0 ? null : ChildState(at);
        if (child == Outcome.ChildZeros) state = child;
        else if (child is not null) return child;
        if (_target is null) return state;
        string difference = asFound ? Difference(_targetBefore.Whole) : Difference(_targetBefore.Others, range, new PageRange(MovedTo, MovedTo + DeedPages * Page));
        if (asFound && IsTwoPages(difference)) return Outcome.TwoPages;
        return difference.Length > 0 ? Bad($"the target is not as found ({state}):\n{difference}") : state;
    }

    // Nothing but mappings more: the holder's code and its control page.
    private static bool IsOurs(string difference) =>
        difference.Length > 0 && difference.Split('\n').All(line => line.StartsWith("  map ", StringComparison.Ordinal) && line.Contains(": (none) -> ", StringComparison.Ordinal));

    private static bool IsTwoPages(string difference)
    {
        Match match = OnePlainMapping().Match(difference);
        return match.Success && Convert.ToUInt64(match.Groups[2].Value, 16) - Convert.ToUInt64(match.Groups[1].Value, 16) == 2 * Page;
    }

    [GeneratedRegex(@"^  map ([0-9a-f]+)-([0-9a-f]+): \(none\) -> rwxp 0 00:00 0[^\n]*$")]
    private static partial Regex OnePlainMapping();

    private string RegionState(ulong at)
    {
        foreach (Vma vma in Smaps.Within(TargetPid, at, Length))
        {
            if (vma.Permissions[0] != 'r') return Bad($"an unfinished region is left at {vma.Range}: {vma.Permissions}");
            if (vma.Has("um")) return Bad($"the region at {vma.Range} is guarded still");
        }
        ulong good = 0, lost = 0;
        foreach ((ulong address, ulong pages, ulong firstPage) in Sections(at))
        {
            if (RemoteContent.Examine(TargetPid, address, pages, SourceSeed, firstPage) is not { } seen) return Bad("a page of the target does not come");
            if (seen.Zero + seen.Wrong > 0)
            {
                bool old = IsFixed && RemoteContent.Examine(TargetPid, at, _cell.Pages, TargetSeed, 0) is { } before && before.Good == _cell.Pages;
                return old ? Outcome.AsFound : Bad($"the target has {seen}");
            }
            good += seen.Good;
            lost += seen.SigBus;
        }
        return lost == 0 ? Outcome.Complete : Outcome.SigBus;
    }

    /// <summary>Where the content lies after what the target did; what it dropped may be zeros, what it unmapped is not there.</summary>
    private List<(ulong Address, ulong Pages, ulong FirstPage)> Sections(ulong at)
    {
        if (_cell.Deed is not ("remap" or "drop" or "unmap")) return [(at, _cell.Pages, 0)];
        const ulong behind = DeedPage + DeedPages;
        List<(ulong, ulong, ulong)> sections = [(at, DeedPage, 0), (at + behind * Page, _cell.Pages - behind, behind)];
        if (_cell.Deed == "remap") sections.Add((MovedTo, DeedPages, DeedPage));
        return sections;
    }

    private string? ChildState(ulong at)
    {
        if (RemoteContent.Examine(_child, at, _cell.Pages, SourceSeed, 0) is not { } seen) return Bad("a page of the target's child does not come");
        if (_cell.LosesAll && _cell.FillStep == FillStep.ForkRead && seen is { Wrong: 0, Zero: > 0 }) return Outcome.ChildZeros;
        return seen.Zero + seen.Wrong > 0 ? Bad($"the target's child has {seen}") : null;
    }

    private string Difference(ProcessRecord before, params PageRange[] except)
    {
        string difference = "";
        Eventually.Becomes(() => (difference = before.Difference(ProcessRecord.Take(before.Pid, except))).Length == 0 || IsChildAlone(difference), seconds: 3);
        return IsChildAlone(difference) ? "" : difference;
    }

    // The child that the target forked itself.
    private bool IsChildAlone(string difference) =>
        _child != 0 && difference == string.Create(CultureInfo.InvariantCulture, $"  children:  -> {_child}");

    // ---- the cast ----

    private Puppet MakeSource()
    {
        Puppet source = NewPuppet();
        source.Map(Length, Prot.ReadWrite, MapFlags.FixedNoReplace, SourceAddress);
        source.Fill(SourceAddress, Length, SourceSeed);
        ulong piece = Length / _cell.Pieces;
        for (ulong i = 1; i < _cell.Pieces; i += 2) source.Protect(SourceAddress + i * piece, piece, Prot.Read);
        // So large that it is kept out of a fork.
        source.Map(64 * AddressSpace.MiB);
        return source;
    }

    private Puppet MakeTarget()
    {
        Puppet target = NewPuppet();
        if (!IsFixed) return target;
        target.Map(Length, Prot.ReadWrite, MapFlags.FixedNoReplace, FixedDestination);
        target.Fill(FixedDestination, Length, TargetSeed);
        return target;
    }

    private Puppet NewPuppet()
    {
        Puppet puppet = new(_theatre, Mark(_theatre.Start("unshare", "--uts", _theatre.Program("puppet"), _theatre.Door)), fromNursery: true);
        _marks.Add(new Namesake(puppet.Pid));
        return puppet;
    }

    private int Mark(int pid)
    {
        _cast.Add(pid);
        return pid;
    }

    private static string Bad(string why) => $"{Outcome.Bad}: {why}";

    public void Dispose()
    {
        // First who may hold the others: a tracee that is killed ends with its tracer.
        _caller.Dispose();
        _source?.Dispose();
        _target?.Dispose();
        if (_child != 0) Libc.Kill(_child, Libc.SIGKILL);
        foreach (Namesake mark in _marks)
        {
            foreach (int pid in mark.Living) Libc.Kill(pid, Libc.SIGKILL);
            mark.Dispose();
        }
    }
}
