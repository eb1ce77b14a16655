using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>
/// fork, mremap, munmap, mprotect, madvise, mlock, exec and exit of the target during the fill. A lazy fill stays open until it is told to
/// finish, which makes each of them certain to come in the middle; the same with a running background fill is up to chance, and is tried too.
/// </summary>
public class FillEventTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 16 * MiB;

    public static TheoryData<MmapFlags> Fills => [MmapFlags.Lazy, MmapFlags.None];

    [Theory]
    [MemberData(nameof(Fills))]
    public void Fork(MmapFlags fill)
    {
        (Puppet target, MmapResult result) = Begin(fill);
        target.Touch(result.Address, Length / 4);
        Puppet child = ForkOf(target);
        child.AssertContent(result.Address, Length / 2, 1);
        child.Fill(result.Address, MiB, 2);
        target.AssertContent(result.Address, Length, 1);
        target.Fill(result.Address + MiB, MiB, 3);
        child.AssertContent(result.Address, MiB, 2);
        child.AssertContent(result.Address + MiB, Length - MiB, 1, MiB / Page);
        End(result);
        child.AssertContent(result.Address + MiB, Length - MiB, 1, MiB / Page);
        target.AssertContent(result.Address + 2 * MiB, Length - 2 * MiB, 1, 2 * MiB / Page);
    }

    [Theory]
    [MemberData(nameof(Fills))]
    public void Fork_of_a_fork_and_the_parent_dies(MmapFlags fill)
    {
        (Puppet target, MmapResult result) = Begin(fill);
        Puppet child = ForkOf(target), grandchild = ForkOf(child);
        target.Kill();
        child.Kill();
        grandchild.AssertContent(result.Address, Length, 1);
    }

    [Theory]
    [MemberData(nameof(Fills))]
    public void Ten_children_at_once(MmapFlags fill)
    {
        (Puppet target, MmapResult result) = Begin(fill);
        Puppet[] children = [.. Enumerable.Range(0, 10).Select(_ => ForkOf(target))];
        foreach (Puppet child in children) child.Post($"verify {result.Address} {Length} 1 0 1");
        target.AssertContent(result.Address, Length, 1);
        foreach (Puppet child in children)
        {
            Census seen = Actor.ToCensus(child.Answer());
            Assert.True(seen.Good == Length / Page, $"child {child.Pid}: {seen}");
        }
        End(result);
    }

    [Theory]
    [MemberData(nameof(Fills))]
    public void Mremap_of_the_whole(MmapFlags fill)
    {
        (Puppet target, MmapResult result) = Begin(fill);
        ulong elsewhere = target.FreeRange(Length);
        target.Touch(result.Address + Length / 2, MiB);
        Assert.Equal(elsewhere, target.Move(result.Address, Length, elsewhere));
        ulong newcomer = target.Map(Length, flags: MapFlags.Fixed, at: result.Address);
        target.AssertContent(elsewhere, Length, 1);
        End(result);
        target.AssertContent(elsewhere, Length, 1);
        AssertAllZero(target, newcomer, Length);
    }

    [Theory]
    [MemberData(nameof(Fills))]
    public void Mremap_of_a_part_and_back(MmapFlags fill)
    {
        (Puppet target, MmapResult result) = Begin(fill);
        ulong part = result.Address + 4 * MiB, elsewhere = target.FreeRange(2 * MiB);
        target.Move(part, 2 * MiB, elsewhere);
        target.AssertContent(elsewhere, MiB, 1, 4 * MiB / Page);
        target.AssertContent(result.Address, 4 * MiB, 1);
        target.Move(elsewhere, 2 * MiB, part);
        target.AssertContent(result.Address, Length, 1);
        End(result);
        target.AssertContent(result.Address, Length, 1);
    }

    [Theory]
    [InlineData(MmapFlags.Lazy, false)]
    [InlineData(MmapFlags.None, false)]
    [InlineData(MmapFlags.Lazy, true)]
    [InlineData(MmapFlags.None, true)]
    public void Mremap_to_where_another_thread_has_just_moved_away(MmapFlags fill, bool ontoTheRegion)
    {
        (Puppet target, MmapResult result) = Begin(fill);
        const ulong slots = 1000;
        ulong apart = ontoTheRegion ? 0 : target.FreeRange(2 * slots * Page);
        target.Post($"cross {result.Address} {slots} 1 {apart}");
        Census seen = Actor.ToCensus(target.Answer());
        Assert.True(seen.Good == 2 * slots, $"{seen}");
        End(result);
        target.AssertContent(result.Address + 3 * slots * Page, Length - 3 * slots * Page, 1, 3 * slots);
    }

    [Theory]
    [MemberData(nameof(Fills))]
    public void Mremap_that_shrinks_and_grows(MmapFlags fill)
    {
        (Puppet target, MmapResult result) = Begin(fill);
        ulong region = result.Address;
        Assert.Equal((long)region, target.Syscall(Sys.mremap, (long)region, (long)Length, (long)(8 * MiB), 0));
        ulong grown = (ulong)target.Must(target.Syscall(Sys.mremap, (long)region, (long)(8 * MiB), (long)(12 * MiB), 1), "mremap");
        target.AssertContent(grown, 8 * MiB, 1);
        AssertAllZero(target, grown + 8 * MiB, 4 * MiB);
        End(result);
        target.AssertContent(grown, 8 * MiB, 1);
        AssertAllZero(target, grown + 8 * MiB, 4 * MiB);
    }

    [Theory]
    [MemberData(nameof(Fills))]
    public void Munmap_of_parts(MmapFlags fill)
    {
        (Puppet target, MmapResult result) = Begin(fill);
        ulong region = result.Address;
        target.Unmap(region + 4 * MiB, 4 * MiB);
        target.Unmap(region + Length - MiB, MiB);
        // what is mapped there next is nobody's business but the target's
        target.Map(4 * MiB, flags: MapFlags.Fixed, at: region + 4 * MiB);
        target.AssertContent(region, 4 * MiB, 1);
        target.AssertContent(region + 8 * MiB, 7 * MiB, 1, 8 * MiB / Page);
        AssertAllZero(target, region + 4 * MiB, 4 * MiB);
        End(result);
        target.AssertContent(region + 8 * MiB, 7 * MiB, 1, 8 * MiB / Page);
        AssertAllZero(target, region + 4 * MiB, 4 * MiB);
    }

    [Fact]
    public void Munmap_of_everything_ends_the_fill()
    {
        (Puppet target, MmapResult result) = Begin(MmapFlags.Lazy);
        target.Unmap(result.Address, Length / 2);
        target.Unmap(result.Address + Length / 2, Length / 2);
        AssertEnds(result.Duplication, DuplicationState.TargetGone);
    }

    [Theory]
    [MemberData(nameof(Fills))]
    public void Madvise_DONTNEED_gives_zeros_as_on_any_memory(MmapFlags fill)
    {
        (Puppet target, MmapResult result) = Begin(fill);
        ulong region = result.Address;
        target.Touch(region + 2 * MiB, MiB);
        target.Must(target.Advise(region + MiB, 4 * MiB, Madv.DontNeed), "madvise");
        AssertAllZero(target, region + MiB, 2 * MiB);
        target.Fill(region + 4 * MiB, MiB, 2);
        End(result);
        AssertAllZero(target, region + MiB, 3 * MiB);
        target.AssertContent(region + 4 * MiB, MiB, 2);
        target.AssertContent(region, MiB, 1);
        target.AssertContent(region + 5 * MiB, Length - 5 * MiB, 1, 5 * MiB / Page);
    }

    [Fact]
    public void Madvise_DONTNEED_then_fork_and_mremap()
    {
        (Puppet target, MmapResult result) = Begin(MmapFlags.Lazy);
        ulong region = result.Address, elsewhere = target.FreeRange(4 * MiB);
        target.Must(target.Advise(region + MiB, MiB, Madv.DontNeed), "madvise");
        Puppet child = ForkOf(target);
        target.Move(region, 4 * MiB, elsewhere);
        AssertAllZero(child, region + MiB, MiB);
        AssertAllZero(target, elsewhere + MiB, MiB);
        target.AssertContent(elsewhere, MiB, 1);
        child.Must(child.Advise(region, MiB, Madv.DontNeed), "madvise");
        AssertAllZero(child, region, 2 * MiB);
        End(result);
        target.AssertContent(elsewhere + 2 * MiB, 2 * MiB, 1, 2 * MiB / Page);
        target.AssertContent(region + 4 * MiB, Length - 4 * MiB, 1, 4 * MiB / Page);
        child.AssertContent(region + 2 * MiB, Length - 2 * MiB, 1, 2 * MiB / Page);
    }

    [Theory]
    [MemberData(nameof(Fills))]
    public void Mprotect(MmapFlags fill)
    {
        (Puppet target, MmapResult result) = Begin(fill);
        target.Protect(result.Address, MiB, Prot.None);
        target.Protect(result.Address + 2 * MiB, MiB, Prot.Read);
        target.AssertContent(result.Address + 2 * MiB, MiB, 1, 2 * MiB / Page);
        End(result);
        Assert.Equal(MiB / Page, target.Examine(result.Address, MiB, 1).SegV);
        target.Protect(result.Address, 3 * MiB, Prot.ReadWrite);
        target.AssertContent(result.Address, Length, 1);
    }

    [Theory]
    [MemberData(nameof(Fills))]
    public void Mlock_and_populate(MmapFlags fill)
    {
        (Puppet target, MmapResult result) = Begin(fill);
        Assert.Equal(0L, target.Syscall(Sys.mlock, (long)result.Address, (long)(2 * MiB)));
        target.Must(target.Advise(result.Address + 2 * MiB, 2 * MiB, Madv.PopulateRead), "madvise");
        target.AssertContent(result.Address, Length, 1);
        End(result);
        target.AssertContent(result.Address, Length, 1);
    }

    [Fact]
    public void Other_madvise_and_split_protections()
    {
        (Puppet target, MmapResult result) = Begin(MmapFlags.Lazy);
        foreach (Madv advice in (Madv[])[Madv.HugePage, Madv.NoHugePage, Madv.DontDump, Madv.Mergeable])
            target.Advise(result.Address + MiB, MiB, advice);
        for (ulong page = 0; page < 64; page += 2) target.Protect(result.Address + page * Page, Page, Prot.Read);
        target.AssertContent(result.Address, Length / 2, 1);
        End(result);
        target.AssertContent(result.Address, Length, 1);
    }

    [Fact]
    public void Exec_ends_the_fill()
    {
        (Puppet target, MmapResult result) = Begin(MmapFlags.Lazy);
        target.Exec();
        AssertEnds(result.Duplication, DuplicationState.TargetGone);
        Assert.True(target.Scratch > 0);
    }

    [Fact]
    public void Exit_ends_the_fill()
    {
        (Puppet target, MmapResult result) = Begin(MmapFlags.Lazy);
        target.Post($"exit 7");
        Assert.Equal(7, Theatre.Nursery.WaitForEnd(target.Pid));
        AssertEnds(result.Duplication, DuplicationState.TargetGone);
    }

    [Fact]
    public void A_child_that_execs_or_exits_leaves_the_parents_fill_alone()
    {
        (Puppet target, MmapResult result) = Begin(MmapFlags.Lazy);
        Puppet first = ForkOf(target), second = ForkOf(target);
        first.Exec();
        second.Post($"exit 3");
        Assert.Equal(3 << 8, target.WaitFor(second.Pid));
        target.AssertContent(result.Address, Length, 1);
        End(result);
    }

    [Fact]
    public void Events_from_many_threads_of_control_at_once()
    {
        (Puppet target, MmapResult result) = Begin(MmapFlags.None, 64 * MiB);
        target.StartHammers(2, result.Address + 32 * MiB, 16 * MiB, 1, 1);
        for (int round = 0; round < 20; round++)
        {
            Puppet child = ForkOf(target);
            child.Post($"verify {result.Address + 32 * MiB} {4 * MiB} 1 {32 * MiB / Page} 1");
            ulong part = result.Address + (ulong)round * MiB;
            target.Must(target.Advise(part, MiB / 2, Madv.DontNeed), "madvise");
            AssertAllZero(target, part, MiB / 2);
            Assert.Equal(4 * MiB / Page, Actor.ToCensus(child.Answer()).Good);
            child.Kill();
        }
        target.JoinThreads();
        End(result);
        target.AssertContent(result.Address + 20 * MiB, 44 * MiB, 1, 20 * MiB / Page);
    }

    private (Puppet Target, MmapResult Result) Begin(MmapFlags fill, ulong length = Length)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(length, 1);
        MmapResult result = Call(source, target, at, length, flags: fill);
        source.Kill();
        return (target, result);
    }

    private static void End(MmapResult result)
    {
        result.Duplication.Finish();
        AssertCompletes(result);
    }
}
