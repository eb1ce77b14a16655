using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>A to B to A, A to B to C during the fill, one source to many targets, and many at the same time.</summary>
public class ChainTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 16 * MiB;

    public static TheoryData<MmapFlags> Fills => [MmapFlags.None, MmapFlags.Lazy];

    public static TheoryData<Mode, MmapFlags> EachModeAndFill =>
        new MatrixTheoryData<Mode, MmapFlags>(Modes.All, [MmapFlags.None, MmapFlags.Lazy]);

    [Theory]
    [MemberData(nameof(Fills))]
    public void There_and_back(MmapFlags fill)
    {
        Puppet a = NewPuppet(), b = NewPuppet();
        ulong at = a.MapFilled(Length, 1);
        MmapResult there = Call(a, b, at, Length, flags: fill);
        b.Write(there.Address + 8, [7]);
        MmapResult back = Call(b, a, there.Address, Length, flags: fill);
        Assert.Equal([7], a.Read(back.Address + 8, 1));
        a.AssertContent(back.Address + Page, Length - Page, 1, 1);
        a.AssertContent(at, Length, 1);
        b.AssertContent(there.Address + Page, Length - Page, 1, 1);
        Finish(there, back);
        a.AssertContent(back.Address + Page, Length - Page, 1, 1);
    }

    [Theory]
    [MemberData(nameof(Fills))]
    public void Back_onto_the_range_it_came_from(MmapFlags fill)
    {
        Puppet a = NewPuppet(), b = NewPuppet();
        ulong at = a.MapFilled(Length, 1);
        MmapResult there = Call(a, b, at, Length, flags: fill);
        b.Fill(there.Address, MiB, 2);
        MmapResult back = Call(b, a, there.Address, Length, at, MmapFlags.Fixed | fill);
        a.AssertContent(at, MiB, 2);
        a.AssertContent(at + MiB, Length - MiB, 1, MiB / Page);
        Finish(there, back);
        a.AssertContent(at + MiB, Length - MiB, 1, MiB / Page);
    }

    [Theory]
    [MemberData(nameof(EachModeAndFill))]
    public void From_hand_to_hand_while_filling(Mode mode, MmapFlags fill)
    {
        Puppet[] hands = [.. Enumerable.Range(0, 6).Select(_ => NewPuppet())];
        ulong at = hands[0].MapFilled(Length, 1);
        var results = new List<MmapResult>();
        for (int i = 1; i < hands.Length; i++)
        {
            results.Add(Call(hands[i - 1], hands[i], at, Length, flags: mode.Flag() | fill));
            if (mode == Mode.Move) hands[i - 1].AssertTaken(at, Length, 1);
            at = results[^1].Address;
            hands[i].Touch(at + (ulong)i * MiB, MiB);
        }
        hands[^1].AssertContent(at, Length, 1);
        // the ones between still have their own copies, and die without harm to the last
        for (int i = 1; i < hands.Length - 1 && mode == Mode.Copy; i++) hands[i].AssertContent(results[i - 1].Address, Length / 2, 1);
        for (int i = 0; i < hands.Length - 1; i++) hands[i].Kill();
        results[^1].Duplication.Finish();
        AssertCompletes(results[^1]);
        hands[^1].AssertContent(at, Length, 1);
    }

    [Fact]
    public void A_fill_that_does_not_go_on_is_an_error_and_not_a_hang()
    {
        Puppet a = NewPuppet(), b = NewPuppet(), c = NewPuppet();
        ulong at = a.MapFilled(Length, 1);
        MmapResult first = Call(a, b, at, Length, flags: MmapFlags.Lazy);
        Libc.Kill(first.Duplication.HolderPid, Libc.SIGSTOP);
        try
        {
            // who calls maps things of its own
            ProcessRecord[] before = [.. ((Puppet[])[b, c]).Where(each => !each.MapsByItself).Select(each => ProcessRecord.TakeAtRest(each.Pid))];
            Refused(Errno.EAGAIN, b, c, first.Address, Length, 0, MmapFlags.None);
            foreach (ProcessRecord each in before) each.AssertUnchanged();
        }
        finally
        {
            Libc.Kill(first.Duplication.HolderPid, Libc.SIGCONT);
        }
        MmapResult second = Call(b, c, first.Address, Length);
        AssertCompletes(second);
        c.AssertContent(second.Address, Length, 1);
    }

    [Fact]
    public void A_middle_one_that_is_lost_passes_on_no_zeros()
    {
        Puppet a = NewPuppet(), b = NewPuppet(), c = NewPuppet();
        ulong at = a.MapFilled(Length, 1);
        MmapResult first = Call(a, b, at, Length, flags: MmapFlags.Lazy), second = Call(b, c, first.Address, Length, flags: MmapFlags.Lazy);
        // the second call may well have completed the first fill: then there is nothing left to lose
        if (first.Duplication.State != DuplicationState.Complete) Libc.Kill(first.Duplication.HolderPid, Libc.SIGKILL);
        Assert.True(first.Duplication.Wait(Patience.Of(20)), Describe(first.Duplication));
        Census seen = c.Examine(second.Address, Length, 1);
        Assert.True(seen is { Zero: 0, Wrong: 0, SegV: 0 }, seen.ToString());
    }

    [Theory]
    [MemberData(nameof(Fills))]
    public void One_to_many(MmapFlags fill)
    {
        Puppet source = NewPuppet();
        Puppet[] targets = [.. Enumerable.Range(0, 16).Select(_ => NewPuppet())];
        ulong at = source.MapFilled(Length, 1);
        MmapResult[] results = [.. targets.Select(target => Call(source, target, at, Length, flags: fill))];
        source.Fill(at, Length, 2);
        for (int i = 0; i < targets.Length; i++) targets[i].Post($"verify {results[i].Address} {Length} 1 0 1");
        foreach (Puppet target in targets)
        {
            Census seen = Actor.ToCensus(target.Answer());
            Assert.True(seen.Good == Length / Page, $"process {target.Pid}: {seen}");
        }
        Finish(results);
    }

    [Fact]
    public void Many_to_one_and_the_same_twice()
    {
        Puppet target = NewPuppet();
        Puppet[] sources = [.. Enumerable.Range(0, 4).Select(_ => NewPuppet())];
        MmapResult[] results = [.. sources.SelectMany((source, i) =>
        {
            ulong at = source.MapFilled(Length, (ulong)i + 1);
            return new[] { Call(source, target, at, Length, flags: MmapFlags.Lazy), Call(source, target, at, Length) };
        })];
        for (int i = 0; i < results.Length; i++) target.AssertContent(results[i].Address, Length, (ulong)i / 2 + 1);
        Finish(results);
    }

    [Theory]
    [MemberData(nameof(EachMode))]
    public async Task Eight_calls_at_once_on_the_same_source(Mode mode)
    {
        const ulong Part = Length / 8;
        Puppet source = NewPuppet();
        Puppet[] targets = [.. Enumerable.Range(0, 8).Select(_ => NewPuppet())];
        ulong at = source.MapFilled(Length, 1);
        // what is handed over can only go to one: each gets another part of the whole
        ulong[] firsts = [.. Enumerable.Range(0, 8).Select(i => mode == Mode.Copy ? 0 : (ulong)i * Part)];
        ulong length = mode == Mode.Copy ? Length : Part;
        ProcessRecord before = ProcessRecord.TakeAtRest(source.Pid);
        MmapResult[] results = await AtOnce(
            targets.Select((target, i) => (Func<MmapResult>)(() => Call(source, target, at + firsts[i], length, flags: mode.Flag()))));
        before.AssertUnchanged(mode == Mode.Copy ? [] : [new PageRange(at, at + Length)]);
        for (int i = 0; i < 8; i++) targets[i].AssertContent(results[i].Address, length, 1, firsts[i] / Page);
        if (mode == Mode.Copy) source.AssertContent(at, Length, 1);
        else source.AssertTaken(at, Length, 1);
        Finish(results);
        before.AssertUnchanged(mode == Mode.Copy ? [] : [new PageRange(at, at + Length)]);
    }

    [Theory]
    [MemberData(nameof(EachMode))]
    public async Task Eight_calls_at_once_on_the_same_target(Mode mode)
    {
        Puppet target = NewPuppet();
        Puppet[] sources = [.. Enumerable.Range(0, 8).Select(_ => NewPuppet())];
        ulong[] ats = [.. sources.Select((source, i) => source.MapFilled(Length, (ulong)i + 1))];
        MmapResult[] results = await AtOnce(
            sources.Select((source, i) => (Func<MmapResult>)(() => Call(source, target, ats[i], Length, flags: mode.Flag()))));
        for (int i = 0; i < 8; i++) target.AssertContent(results[i].Address, Length, (ulong)i + 1);
        Finish(results);
        for (int i = 0; i < 8; i++) target.AssertContent(results[i].Address, Length, (ulong)i + 1);
    }

    [Fact]
    public async Task Eight_pulls_and_eight_pushes_at_once()
    {
        Puppet[] puppets = [.. Enumerable.Range(0, 8).Select(_ => NewPuppet())];
        ulong own = MapFilled(Own, Length, 99);
        ulong[] ats = [.. puppets.Select((puppet, i) => puppet.MapFilled(Length, (ulong)i + 1))];
        MmapResult[] results = await AtOnce(puppets.SelectMany((puppet, i) => new Func<MmapResult>[]
        {
            () => Call(puppet, Own, ats[i], Length), () => Call(Own, puppet, own, Length),
        }));
        for (int i = 0; i < 8; i++)
        {
            Own.AssertContent(results[2 * i].Address, Length, (ulong)i + 1);
            puppets[i].AssertContent(results[2 * i + 1].Address, Length, 99);
        }
        Finish(results);
    }

    [Fact]
    public async Task There_and_back_at_the_same_time()
    {
        Puppet a = NewPuppet(), b = NewPuppet();
        ulong inA = a.MapFilled(Length, 1), inB = b.MapFilled(Length, 2);
        for (int round = 0; round < 10; round++)
        {
            MmapResult[] results = await AtOnce([() => Call(a, b, inA, Length), () => Call(b, a, inB, Length)]);
            b.AssertContent(results[0].Address, Length, 1);
            a.AssertContent(results[1].Address, Length, 2);
            Finish(results);
            b.Unmap(results[0].Address, Length);
            a.Unmap(results[1].Address, Length);
        }
    }

    private static void Finish(params MmapResult[] results)
    {
        foreach (MmapResult result in results) result.Duplication.Finish();
        foreach (MmapResult result in results) AssertCompletes(result);
    }

    private static async Task<MmapResult[]> AtOnce(IEnumerable<Func<MmapResult>> calls)
    {
        using var gate = new ManualResetEventSlim();
        Task<MmapResult>[] tasks = [.. calls.Select(call => Task.Factory.StartNew(
            () =>
            {
                gate.Wait();
                return call();
            },
            CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default))];
        gate.Set();
        return await Task.WhenAll(tasks);
    }
}
