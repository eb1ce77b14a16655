using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests.Soak;

/// <summary>
/// Six processes that copy and move memory among each other while they write, unmap, remap, protect and fork. After each step the pages it
/// concerned, and at the end all, must hold what the model says.
/// </summary>
internal sealed class Play : IDisposable
{
    private const ulong Page = PageRange.PageSize, MiB = 1 << 20, LargestPages = 8 * MiB / Page, MostBytes = 24 * MiB;
    private const int Players = 6, MostChildren = 3, MostFills = 12;

    private readonly Theatre _theatre;
    private readonly Func<Puppet, Puppet> _fork;
    private readonly List<Player> _players = [];
    private readonly List<(Player Child, Player Parent)> _children = [];
    private readonly List<Duplication> _fills = [];
    private readonly List<string> _log = [];
    private ulong _seed;

    /// <param name="theatre">Where it is played.</param>
    /// <param name="enter">A new puppet; the argument says whether it is to have the library loaded.</param>
    /// <param name="fork">A puppet's child.</param>
    public Play(Theatre theatre, Func<bool, Puppet> enter, Func<Puppet, Puppet> fork)
    {
        (_theatre, _fork) = (theatre, fork);
        for (int i = 0; i < Players; i++)
        {
            bool mayCall = i % 2 == 0;
            _players.Add(new Player($"{(char)('A' + i)}", enter(mayCall), mayCall, new MemoryModel()));
        }
    }

    public void Run(IReadOnlyList<PlayStep> steps)
    {
        try
        {
            foreach (PlayStep step in steps) Do(step.Act, new Dice(step.Dice));
            End();
        }
        catch (Exception e)
        {
            throw new InvalidOperationException($"{e.Message}\nafter\n  {string.Join("\n  ", _log.TakeLast(40))}", e);
        }
    }

    public void Dispose()
    {
        foreach ((Player child, _) in _children) child.Puppet.Dispose();
        foreach (Player player in _players) player.Puppet.Dispose();
        foreach (Duplication fill in _fills) fill.Dispose();
    }

    private void Do(Act act, Dice dice)
    {
        Player player = dice.Pick(_players);
        switch (act)
        {
            case Act.Call: Call(dice); break;
            case Act.Map: Map(player, dice); break;
            case Act.Write: Await(Write(player, dice), player); break;
            case Act.Fork: Fork(player); break;
            case Act.Check: Log(player, "check"); player.CheckEverything(); break;
            case Act.Finish: FinishFills(); break;
            default:
                if (SomeRange(player, dice, LargestPages) is { } range) Change(player, act, range, dice);
                break;
        }
    }

    private void Call(Dice dice)
    {
        Way way = dice.Pick(Enum.GetValues<Way>());
        List<Player> callers = _players.FindAll(player => player.MayCall), others = [.. _players, .. _children.Select(pair => pair.Child)];
        Player source = dice.Pick(way == Way.Push ? callers : others), target = dice.Pick(way == Way.Pull ? callers : _players);
        if (SomeRange(source, dice, LargestPages) is not { } range) return;
        Mode mode = dice.Pick(Modes.All);
        MmapFlags flags = mode.Flag() | dice.Pick(MmapFlags.None, MmapFlags.None, MmapFlags.Lazy, MmapFlags.Populate);
        MakeRoom(target, range.Length);
        if (SomeRange(source, dice, LargestPages) is not { } still) return;
        range = still;

        // where to, and what must come of it
        ulong at = 0;
        Errno expected = Errno.None;
        switch (dice.Roll(5))
        {
            case 0:
                break;
            case 1 when SomeRange(target, dice, range.Length / Page) is { } place:
                (at, range) = (place.Start, new PageRange(range.Start, range.Start + place.Length));
                flags |= MmapFlags.Fixed;
                if (source == target && place.Overlaps(range)) expected = Errno.EINVAL;
                break;
            case 2 when SomeRange(target, dice, range.Length / Page) is { } place && !(source == target && place.Overlaps(range)):
                at = place.Start;
                flags |= MmapFlags.FixedNoReplace;
                expected = source == target && new PageRange(at, at + range.Length).Overlaps(range) ? Errno.EINVAL : Errno.EEXIST;
                break;
            default:
                at = target.Puppet.FreeRange(range.Length);
                flags |= dice.Pick(MmapFlags.None, MmapFlags.Fixed, MmapFlags.FixedNoReplace);
                break;
        }

        // any byte of the first page and any of the last will do
        ulong start = range.Start + dice.Roll(Page), length = Math.Max(range.End - dice.Roll(Page), start + 1) - start;
        Log(source, $"{way} {mode} {range} to {target} at {at:x} {flags}, expected {expected}");
        PageRange? written = null;
        Player? busy = way == Way.ThirdParty && dice.OneIn(2) ? dice.Pick(source, target) : null;
        if (busy is not null) written = Write(busy, dice, busy == source ? range : default, busy == target && at != 0 ? new PageRange(at, at + range.Length) : default);
        (ulong placed, Errno errno) = Make(way, source, target, start, length, at, flags);
        if (busy is not null) Await(written, busy);
        Assert.True(errno == expected, $"expected {expected}, got {errno}");
        if (errno == Errno.None)
        {
            Assert.True(at == 0 || !flags.HasFlag(MmapFlags.Fixed) || placed == at, $"placed at {placed:x}");
            Extent[] content = [.. source.Memory.Within(range).Select(extent => extent.MovedTo(placed + (extent.Range.Start - range.Start)))];
            if (mode == Mode.Move) source.Memory.Clear(range);
            target.Memory.Clear(new PageRange(placed, placed + range.Length));
            target.Memory.Set(content);
            CheckSome(target, new PageRange(placed, placed + range.Length), dice);
        }
        CheckSome(source, range, dice);
    }

    private (ulong Address, Errno Errno) Make(Way way, Player source, Player target, ulong start, ulong length, ulong at, MmapFlags flags)
    {
        if (way != Way.ThirdParty)
        {
            (long address, Errno errno) = way == Way.Push
                ? source.Puppet.Call(-target.Puppet.Pid, start, length, at, flags)
                : target.Puppet.Call(source.Puppet.Pid, start, length, at, flags);
            return ((ulong)address, errno);
        }
        try
        {
            MmapResult result = ProcessVm.MmapBetween(source.Puppet.Pid, target.Puppet.Pid, start, length, at, flags);
            _fills.Add(result.Duplication);
            if (_fills.Count > MostFills) Finish(0);
            return (result.Address, Errno.None);
        }
        catch (PvmmapException e)
        {
            Log(source, e.Message);
            return (0, e.Errno);
        }
    }

    private void Map(Player player, Dice dice)
    {
        ulong length = SomePages(dice, LargestPages) * Page;
        MakeRoom(player, length);
        ulong at = player.Puppet.Map(length);
        var range = new PageRange(at, at + length);
        player.Memory.Set(Extent.Zeros(range, Prot.ReadWrite));
        Log(player, $"map {range}");
        // some stay as they are, never touched
        if (dice.OneIn(4)) return;
        var written = new Extent(range, ++_seed, 0, Prot.ReadWrite);
        player.Puppet.Fill(at, length, written.Seed);
        player.Memory.Set(written);
    }

    /// <summary>Begins to write somewhere outside the ranges; the answer is still to come.</summary>
    private PageRange? Write(Player player, Dice dice, params PageRange[] except)
    {
        Extent[] writable = [.. player.Memory.All.Where(extent =>
            extent.Protection == Prot.ReadWrite && !Array.Exists(except, range => range.Length > 0 && range.Overlaps(extent.Range)))];
        if (writable.Length == 0) return null;
        PageRange range = Part(dice.Pick(writable).Range, dice, LargestPages);
        var written = new Extent(range, ++_seed, dice.Roll(1000), Prot.ReadWrite);
        Log(player, $"write {range} seed {written.Seed}");
        player.Puppet.Post($"fill {range.Start} {range.Length} {written.Seed} {written.FirstPage} 1");
        player.Memory.Set(written);
        return range;
    }

    private static void Await(PageRange? written, Player player)
    {
        if (written is null) return;
        player.Puppet.Answer();
        player.Check(written.Value);
    }

    private void Change(Player player, Act act, PageRange range, Dice dice)
    {
        Puppet puppet = player.Puppet;
        Log(player, $"{act} {range}");
        switch (act)
        {
            case Act.Unmap:
                puppet.Unmap(range.Start, range.Length);
                player.Memory.Clear(range);
                break;
            case Act.DontNeed:
                puppet.Must(puppet.Advise(range.Start, range.Length, Madv.DontNeed), "madvise");
                player.Memory.Change(range, extent => Extent.Zeros(extent.Range, extent.Protection));
                break;
            case Act.Protect:
                Prot protection = dice.Pick(Prot.ReadWrite, Prot.ReadWrite, Prot.Read, Prot.None);
                puppet.Protect(range.Start, range.Length, protection);
                player.Memory.Change(range, extent => extent with { Protection = protection });
                break;
            default:
                range = Move(player, range, dice);
                break;
        }
        CheckSome(player, range, dice);
    }

    /// <summary>mremap(2), which takes one VMA at a time, to a free place or over other mappings.</summary>
    private PageRange Move(Player player, PageRange range, Dice dice)
    {
        Puppet puppet = player.Puppet;
        Vma vma = Smaps.ReadMaps(puppet.Pid).First(vma => vma.Range.Overlaps(range) && vma.Range.End > range.Start);
        range = range.Intersect(vma.Range);
        ulong to = 0;
        if (dice.OneIn(3) && SomeRange(player, dice, range.Length / Page) is { } place && !place.Overlaps(range))
        {
            range = new PageRange(range.Start, range.Start + place.Length);
            if (!place.Overlaps(range)) to = place.Start;
        }
        if (to == 0) to = puppet.FreeRange(range.Length);
        Log(player, $"mremap {range} to {to:x}");
        puppet.Move(range.Start, range.Length, to);
        Extent[] content = [.. player.Memory.Within(range).Select(extent => extent.MovedTo(to + (extent.Range.Start - range.Start)))];
        player.Memory.Clear(range);
        player.Memory.Clear(new PageRange(to, to + range.Length));
        player.Memory.Set(content);
        return new PageRange(to, to + range.Length);
    }

    private void Fork(Player parent)
    {
        if (_children.Count == MostChildren) Bury(0);
        Log(parent, "fork");
        var child = new Player($"child of {parent}", _fork(parent.Puppet), mayCall: false, new MemoryModel(parent.Memory));
        _children.Add((child, parent));
    }

    private void Bury(int index)
    {
        (Player child, Player parent) = _children[index];
        Log(child, "ends");
        child.CheckEverything();
        child.Puppet.Kill();
        parent.Puppet.WaitFor(child.Puppet.Pid);
        child.Puppet.Dispose();
        _children.RemoveAt(index);
    }

    private void FinishFills()
    {
        while (_fills.Count > 0) Finish(0);
    }

    private void Finish(int index)
    {
        using Duplication fill = _fills[index];
        _fills.RemoveAt(index);
        fill.Finish();
        Assert.True(fill.Wait(TimeSpan.FromSeconds(30)), $"fill {fill.SourcePid} -> {fill.TargetPid} not done: {fill.State}, {fill.BytesToGo} to go");
        Assert.True(fill.State is DuplicationState.Complete or DuplicationState.TargetGone, $"fill {fill.SourcePid} -> {fill.TargetPid}: {fill.State}");
    }

    /// <summary>Nothing may be left: no child, no fill, no stopped process, no descriptor, no mapping.</summary>
    private void End()
    {
        Log(_players[0], "the end");
        while (_children.Count > 0) Bury(0);
        FinishFills();
        foreach (Duplication fill in Duplication.Running())
        {
            using (fill)
                if (_players.Exists(player => player.Puppet.Pid == fill.TargetPid)) fill.Finish();
        }
        foreach (Player player in _players) player.End();
        Leftovers.AssertNone(_theatre, [], seconds: 5);
        foreach (Player player in _players) Assert.True(ProcessStatus.State(player.Puppet.Pid) is 'S' or 'R', $"{player} is stopped");
    }

    private static void CheckSome(Player player, PageRange range, Dice dice)
    {
        // all of it ends a lazy fill; most are to go on
        if (dice.OneIn(3)) player.Check(range);
        else player.Check(Part(range, dice, 64));
    }

    private void MakeRoom(Player player, ulong length)
    {
        while (player.Memory.Bytes + length > MostBytes)
        {
            PageRange island = player.Memory.Islands[0];
            Log(player, $"make room: unmap {island}");
            player.Puppet.Unmap(island.Start, island.Length);
            player.Memory.Clear(island);
        }
    }

    private static PageRange? SomeRange(Player player, Dice dice, ulong mostPages) =>
        player.Memory.Islands is { Count: > 0 } islands ? Part(dice.Pick(islands), dice, mostPages) : null;

    private static PageRange Part(PageRange whole, Dice dice, ulong mostPages)
    {
        ulong pages = SomePages(dice, Math.Min(mostPages, whole.Length / Page));
        ulong start = whole.Start + dice.Roll(whole.Length / Page - pages + 1) * Page;
        return new PageRange(start, start + pages * Page);
    }

    /// <summary>One page as likely as some and as many.</summary>
    private static ulong SomePages(Dice dice, ulong most) => Math.Min(most, 1 + dice.Roll(1UL << (int)dice.Roll(13)));

    private void Log(Player player, string what) => _log.Add($"{player}: {what}");
}
