using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>Later writes on either side are never seen by the other.</summary>
public class IsolationTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 64 * MiB;

    public static TheoryData<Way, MmapFlags> WaysAndFills => new MatrixTheoryData<Way, MmapFlags>(
        Enum.GetValues<Way>(), [MmapFlags.None, MmapFlags.Lazy, MmapFlags.Populate]);

    [Theory]
    [MemberData(nameof(WaysAndFills))]
    public void What_the_source_writes_later_stays_its_own(Way way, MmapFlags fill)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong at = MapFilled(source, Length, 1);
        MmapResult result = Call(source, target, at, Length, flags: fill);
        source.Fill(at, Length, 2);
        target.AssertContent(result.Address, Length, 1);
        source.AssertContent(at, Length, 2);
    }

    [Theory]
    [MemberData(nameof(WaysAndFills))]
    public void What_the_target_writes_stays_its_own(Way way, MmapFlags fill)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong at = MapFilled(source, Length, 1);
        MmapResult result = Call(source, target, at, Length, flags: fill);
        // the first half is written before it is ever read there; what is not written keeps the source's content
        target.Fill(result.Address, Length / 2, 2);
        target.Write(result.Address + Length / 2 + 8, [1, 2, 3]);
        Assert.Equal([1, 2, 3], target.Read(result.Address + Length / 2 + 8, 3));
        source.AssertContent(at, Length, 1);
        target.AssertContent(result.Address, Length / 2, 2);
        target.AssertContent(result.Address + Length / 2 + Page, Length / 2 - Page, 1, Length / 2 / Page + 1);
        result.Duplication.Finish();
        AssertCompletes(result);
        target.AssertContent(result.Address, Length / 2, 2);
        source.AssertContent(at, Length, 1);
    }

    [Theory]
    [MemberData(nameof(WaysAndFills))]
    public void Both_write_at_the_same_time(Way way, MmapFlags fill)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong at = MapFilled(source, Length, 1);
        MmapResult result = Call(source, target, at, Length, flags: fill);
        var writing = new Thread(() => source.Fill(at, Length, 2));
        writing.Start();
        target.Fill(result.Address, Length, 3, step: 2);
        writing.Join();
        source.AssertContent(at, Length, 2);
        // even pages are the target's, odd ones the source's as they were
        for (ulong page = 0; page < Length / Page; page += 1024)
        {
            target.AssertContent(result.Address + page * Page, Page, 3, page);
            target.AssertContent(result.Address + (page + 1) * Page, Page, 1, page + 1);
        }
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void The_source_may_unmap_protect_or_map_anew_at_once(Way way)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong at = source.Map(Length);
        source.Fill(at, Length, 1);
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Lazy);
        source.Protect(at, Length / 2, Prot.None);
        source.Must(source.Advise(at + Length / 2, Length / 4, Madv.DontNeed), "madvise");
        source.Unmap(at, Length);
        target.AssertContent(result.Address, Length, 1);
    }

    [Fact]
    public void A_copy_of_a_copy_and_its_origin_are_three()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(4 * MiB, 1);
        MmapResult first = Call(source, target, at, 4 * MiB);
        MmapResult second = Call(source, target, at, 4 * MiB, flags: MmapFlags.Lazy);
        target.Fill(first.Address, 4 * MiB, 2);
        source.Fill(at, 4 * MiB, 3);
        target.AssertContent(second.Address, 4 * MiB, 1);
        target.AssertContent(first.Address, 4 * MiB, 2);
    }

    [Fact]
    public void Children_that_the_source_forks_before_and_after_see_no_change()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(4 * MiB, 1);
        Puppet before = ForkOf(source);
        MmapResult result = Call(source, target, at, 4 * MiB, flags: MmapFlags.Lazy);
        Puppet after = ForkOf(source);
        target.Fill(result.Address, 2 * MiB, 2);
        foreach (Puppet each in (Puppet[])[before, after, source]) each.AssertContent(at, 4 * MiB, 1);
        before.Fill(at, 4 * MiB, 4);
        after.Fill(at, 4 * MiB, 5);
        target.AssertContent(result.Address + 2 * MiB, 2 * MiB, 1, 2 * MiB / Page);
    }

    [Fact]
    public void The_mapping_is_not_shared_with_the_targets_later_children()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(4 * MiB, 1);
        MmapResult result = Call(source, target, at, 4 * MiB);
        AssertCompletes(result);
        Puppet child = ForkOf(target);
        child.Fill(result.Address, 4 * MiB, 2);
        target.AssertContent(result.Address, 4 * MiB, 1);
        target.Fill(result.Address, 4 * MiB, 3);
        child.AssertContent(result.Address, 4 * MiB, 2);
    }
}
