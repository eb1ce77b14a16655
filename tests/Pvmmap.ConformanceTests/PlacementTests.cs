using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>Where the destination comes to lie: hint, FIXED, FIXED_NOREPLACE; and that FIXED is atomic for other threads of the target.</summary>
public class PlacementTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 16 * MiB;

    public static TheoryData<Way, MmapFlags> WaysAndFills => new MatrixTheoryData<Way, MmapFlags>(
        Enum.GetValues<Way>(), [MmapFlags.None, MmapFlags.Lazy, MmapFlags.Populate]);

    [Theory]
    [MemberData(nameof(Ways))]
    public void A_free_hint_is_taken_and_a_taken_one_is_not_replaced(Way way)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong at = MapFilled(source, MiB, 1), hint = target.FreeRange(MiB);
        MmapResult first = Call(source, target, at, MiB, hint);
        Assert.Equal(hint, first.Address);
        MmapResult second = Call(source, target, at, MiB, hint);
        Assert.NotEqual(hint, second.Address);
        MmapResult unaligned = Call(source, target, at, MiB, target.FreeRange(MiB) + 77);
        Assert.Equal(0UL, unaligned.Address % Page);
        MmapResult hopeless = Call(source, target, at, MiB, 0x7fff_ffff_f000);
        foreach (MmapResult each in (MmapResult[])[first, second, unaligned, hopeless]) target.AssertContent(each.Address, MiB, 1);
    }

    [Theory]
    [MemberData(nameof(WaysAndFills))]
    public void Fixed_replaces_what_was_there_and_nothing_else(Way way, MmapFlags fill)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong at = MapFilled(source, Length, 1), old = MapFilled(target, Length + 2 * MiB, 2);
        MmapResult result = Call(source, target, at, Length, old + MiB, MmapFlags.Fixed | fill);
        Assert.Equal(old + MiB, result.Address);
        target.AssertContent(old, MiB, 2);
        target.AssertContent(old + MiB, Length, 1);
        target.AssertContent(old + MiB + Length, MiB, 2, (MiB + Length) / Page);
        result.Duplication.Finish();
        AssertCompletes(result);
        target.AssertContent(old + MiB + Length, MiB, 2, (MiB + Length) / Page);
    }

    [Fact]
    public void Fixed_replaces_several_mappings_and_the_gaps_between_them()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(8 * MiB, 1), place = target.FreeRange(8 * MiB);
        target.Map(MiB, Prot.None, MapFlags.Fixed, place + MiB);
        target.Map(MiB, Prot.Read, MapFlags.Fixed, place + 3 * MiB);
        target.Map(MiB, Prot.ReadWrite, MapFlags.Fixed | MapFlags.Shared, place + 7 * MiB);
        MmapResult result = Call(source, target, at, 8 * MiB, place, MmapFlags.Fixed);
        Assert.Single(Smaps.Within(target.Pid, place, 8 * MiB));
        target.AssertContent(place, 8 * MiB, 1);
        AssertCompletes(result);
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void Noreplace_takes_a_free_place_right_beside_others(Way way)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong at = MapFilled(source, MiB, 1), free = target.FreeRange(3 * MiB);
        Map(target, MiB, flags: MapFlags.Fixed, at: free + MiB);
        target.Fill(free + MiB, MiB, 2);
        MmapResult before = Call(source, target, at, MiB, free, MmapFlags.FixedNoReplace);
        MmapResult after = Call(source, target, at, MiB, free + 2 * MiB, MmapFlags.FixedNoReplace | MmapFlags.Fixed);
        Assert.Equal((free, free + 2 * MiB), (before.Address, after.Address));
        target.AssertContent(free, MiB, 1);
        target.AssertContent(free + MiB, MiB, 2);
        target.AssertContent(free + 2 * MiB, MiB, 1);
        AssertCompletes(before);
        AssertCompletes(after);
        target.AssertContent(free, MiB, 1);
        target.AssertContent(free + MiB, MiB, 2);
    }

    [Theory]
    [InlineData(MmapFlags.None)]
    [InlineData(MmapFlags.Lazy)]
    [InlineData(MmapFlags.Populate)]
    public void Other_threads_of_the_target_see_the_old_mapping_or_the_whole_new_one(MmapFlags fill)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong place = target.MapFilled(Length, 100), at = source.Map(Length);
        for (ulong seed = 101; seed < 111; seed++)
        {
            source.Fill(at, Length, seed);
            target.StartHammers(3, place, Length, seed - 1, seed);
            Eventually.Holds(() => target.Tally().Old > 10_000, "the hammers hit");
            MmapResult result = Call(source, target, at, Length, place, MmapFlags.Fixed | fill);
            Eventually.Holds(() => target.Tally().New > 10_000, "the hammers see the new content");
            target.JoinThreads();
            AssertNoTear(target.Tally(), seed);
            result.Duplication.Finish();
            AssertCompletes(result);
            target.AssertContent(place, Length, seed);
        }
    }

    [Fact]
    public void Threads_of_the_caller_see_the_old_mapping_or_the_whole_new_one()
    {
        // the caller is a puppet, through the C function: the replaced range is the caller's own
        Puppet source = NewPuppet(), caller = NewPuppet().LoadLibrary();
        ulong place = caller.MapFilled(Length, 100), at = source.Map(Length);
        for (ulong seed = 101; seed < 106; seed++)
        {
            source.Fill(at, Length, seed);
            caller.StartHammers(3, place, Length, seed - 1, seed);
            Eventually.Holds(() => caller.Tally().Old > 10_000, "the hammers hit");
            Assert.Equal(((long)place, Errno.None), caller.Call(source.Pid, at, Length, place, MmapFlags.Fixed));
            Eventually.Holds(() => caller.Tally().New > 10_000, "the hammers see the new content");
            caller.JoinThreads();
            AssertNoTear(caller.Tally(), seed);
            caller.AssertContent(place, Length, seed);
        }
    }

    [Fact]
    public void The_old_mapping_survives_a_call_that_fails()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(MiB, 1), old = target.MapFilled(MiB, 2);
        source.Unmap(at + MiB / 2, Page);
        Refused(Errno.EFAULT, source, target, at, MiB, old, MmapFlags.Fixed);
        target.AssertContent(old, MiB, 2);
        target.Limit(Rlimit.AddressSpace, ProcessStatus.Figure(target.Pid, "VmSize"));
        ulong large = source.MapFilled(4 * MiB, 1);
        Refused(Errno.ENOMEM, source, target, large, 4 * MiB, old, MmapFlags.Fixed);
        target.AssertContent(old, MiB, 2);
    }

    private static void AssertNoTear(Tally tally, ulong seed) => Assert.True(
        tally is { Old: > 0, New: > 0, Zero: 0, Other: 0, Faults: 0, Backward: 0 }, $"replacing with seed {seed}: {tally}");

    /// <summary>As long as the range is filled it lies where the target does not know of it: a child that is forked meanwhile has the old mapping, and no second copy.</summary>
    [Fact]
    public void A_child_that_is_forked_before_it_is_in_place_has_no_copy_of_it()
    {
        const ulong pages = 512, length = pages * Page;
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(length, 1), place = target.MapFilled(length, 2);
        SteppedCall call = new(source.Pid, target.Pid, at, pages, $"{CallStep.None}")
        {
            Destination = place, Flags = MmapFlags.Populate | MmapFlags.Fixed, FillStep = Holder.FillStep.BatchCopied,
        };
        using SteppedCaller caller = new(Theatre, call);
        caller.Say("call");
        Assert.True(caller.AwaitFill(Holder.FillStep.BatchCopied));
        ulong before = ProcessStatus.Figure(target.Pid, "VmSize");
        using Puppet child = target.Fork();
        Assert.Equal(before - length, ProcessStatus.Figure(child.Pid, "VmSize"));
        caller.LetFillGoOn();
        Assert.Equal(place, caller.HearSuccess());
        child.AssertContent(place, length, 2);
        target.AssertContent(place, length, 1);
        using Puppet later = target.Fork();
        later.AssertContent(place, length, 1);
    }
}
