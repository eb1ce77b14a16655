using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>A small range of a large source: what else is large is kept out of the fork, and is afterwards what it was. The cost is measured by ./bench range.</summary>
public sealed class SmallRangeTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Large = 96 * MiB, Length = 2 * MiB;

    [Theory]
    [InlineData(Mode.Copy)]
    [InlineData(Mode.Move)]
    public void The_rest_of_a_large_source_is_as_it_was(Mode mode)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong[] rest = LargeMappings(source);
        ulong surroundings = source.Map(Large), at = surroundings + Large / 2;
        source.Fill(at - Length, 3 * Length, 1);
        ProcessRecord before = ProcessRecord.TakeAtRest(source.Pid, new PageRange(at, at + Length)), target0 = ProcessRecord.TakeAtRest(target.Pid);
        for (int round = 0; round < 3; round++)
        {
            MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Lazy);
            result.Duplication.Finish();
            before.AssertUnchanged();
            AssertCompletes(result);
            target.AssertContent(result.Address, Length, 1, Length / Page);
            target.Unmap(result.Address, Length);
        }
        MmapResult last = Call(source, target, at, Length, flags: mode.Flag());
        AssertCompletes(last);
        before.AssertUnchanged();
        target.AssertContent(last.Address, Length, 1, Length / Page);
        target.Unmap(last.Address, Length);
        target0.AssertUnchanged();
        AssertContents(source, rest);
        // A child of the source has all of it but for what was kept from children before.
        Puppet child = ForkOf(source);
        AssertContents(child, rest[..^1]);
        Assert.Empty(Smaps.Within(child.Pid, rest[^1], Large));
        child.AssertContent(at - Length, Length, 1);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void It_is_withheld_while_the_source_is_forked_and_given_back_even_if_the_caller_is_killed(bool kill)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong[] rest = LargeMappings(source);
        ulong at = source.MapFilled(Length, 1);
        ProcessRecord sourceBefore = ProcessRecord.TakeAtRest(source.Pid), targetBefore = ProcessRecord.TakeAtRest(target.Pid);
        using SteppedCaller caller = new(Theatre, new SteppedCall(source.Pid, target.Pid, at, Length / Page, $"{CallStep.HolderForked}"));
        caller.Say("call");
        Assert.Equal("at", caller.Hear("at", "done")![0]);
        foreach (ulong each in rest) Assert.All(Smaps.Within(source.Pid, each, Large), vma => Assert.True(vma.Has("dc"), $"{vma}"));
        if (kill)
        {
            Libc.Kill(caller.Pid, Libc.SIGKILL);
            sourceBefore.AssertUnchanged();
            targetBefore.AssertUnchanged();
        }
        else
        {
            caller.Say("go");
            ulong region = caller.HearSuccess();
            sourceBefore.AssertUnchanged();
            target.AssertContent(region, Length, 1);
        }
        AssertContents(source, rest);
    }

    public static TheoryData<Way, ulong> TinyCalls => new MatrixTheoryData<Way, ulong>(Enum.GetValues<Way>(), [1, 128]);

    [Theory]
    [MemberData(nameof(TinyCalls))]
    public void A_tiny_range_is_in_place_when_the_call_returns(Way way, ulong pages)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong at = MapFilled(source, (pages + 1) * Page, 1), place = MapFilled(target, pages * Page, 2);
        MmapResult result = Call(source, target, at, pages * Page, place, MmapFlags.Fixed);
        Assert.Equal(DuplicationState.Complete, result.Duplication.State);
        Assert.Equal(0, result.Duplication.SentinelPid);
        Assert.Empty(result.Notes);
        source.Fill(at, pages * Page, 3);
        target.AssertContent(place, pages * Page, 1);
        target.Fill(place, pages * Page, 4);
        source.AssertContent(at, pages * Page, 3);
        source.AssertContent(at + pages * Page, Page, 1, pages);
        // PVMMAP_LAZY is what was asked for, whatever the size.
        MmapResult lazy = Call(source, target, at, pages * Page, flags: MmapFlags.Lazy);
        Assert.Equal(DuplicationState.Lazy, lazy.Duplication.State);
        target.AssertContent(lazy.Address, pages * Page, 3);
        lazy.Duplication.Finish();
        AssertCompletes(lazy);
    }

    [Fact]
    public void A_tiny_range_with_holes_keeps_them()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.Map(32 * Page);
        source.Fill(at + 3 * Page, 2 * Page, 1, 3);
        source.Touch(at + 8 * Page, Page);
        MmapResult result = Call(source, target, at, 32 * Page);
        AssertCompletes(result);
        Assert.Equal(2 * Page, Smaps.Resident(target.Pid, result.Address, 32 * Page));
        target.AssertContent(result.Address + 3 * Page, 2 * Page, 1, 3);
        Assert.Equal(30UL, target.Examine(result.Address, 32 * Page, 1).Zero);
        Assert.Equal(3 * Page, Smaps.Resident(source.Pid, at, 32 * Page));
    }

    /// <summary>Of several kinds, apart from each other; each has content in its last 2 MiB, the first all over. The last is kept from children already.</summary>
    private static ulong[] LargeMappings(Puppet source)
    {
        ulong[] all = [.. Enumerable.Range(0, 6).Select(_ => source.Map(Large))];
        foreach (ulong each in all) source.Fill(each + Large - Length, Length, 7);
        // So much that it is worth keeping it out of a fork.
        source.Fill(all[0], Large - Length, 8);
        source.Must(source.Advise(all[1], Large, Madv.WipeOnFork), "madvise");
        source.Must(source.Advise(all[1], Large, Madv.KeepOnFork), "madvise");
        source.Must(source.Advise(all[2], Large, Madv.HugePage), "madvise");
        source.Must(source.Advise(all[3], Large, Madv.DontDump), "madvise");
        source.Must(source.Advise(all[4], Large, Madv.Mergeable), "madvise");
        source.Must(source.Advise(all[5], Large, Madv.DontFork), "madvise");
        return all;
    }

    private static void AssertContents(Puppet process, ulong[] mappings)
    {
        foreach (ulong each in mappings) process.AssertContent(each + Large - Length, Length, 7);
    }
}
