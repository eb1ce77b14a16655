using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>PVMMAP_MOVE: the range leaves the source as part of the call, and arrives whole.</summary>
public class MoveTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 16 * MiB;

    public static TheoryData<Way, MmapFlags> WaysAndFlags => new MatrixTheoryData<Way, MmapFlags>(
        Enum.GetValues<Way>(),
        [
            MmapFlags.None, MmapFlags.Lazy, MmapFlags.Populate, MmapFlags.Fixed, MmapFlags.Fixed | MmapFlags.Lazy, MmapFlags.Fixed | MmapFlags.Populate,
            MmapFlags.FixedNoReplace, MmapFlags.FixedNoReplace | MmapFlags.Populate,
        ]);

    [Theory]
    [MemberData(nameof(WaysAndFlags))]
    public void The_range_arrives_and_the_source_has_it_no_longer(Way way, MmapFlags flags)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong at = source.Map(Length);
        source.Fill(at, Length, 1, 0, 3);
        ulong to = flags.HasFlag(MmapFlags.Fixed) ? MapFilled(target, Length, 9) : flags.HasFlag(MmapFlags.FixedNoReplace) ? target.FreeRange(Length) : 0;
        ProcessRecord? others = way == Way.Push ? null : ProcessRecord.TakeAtRest(source.Pid, new PageRange(at, at + Length));
        MmapResult result = Call(source, target, at, Length, to, flags | MmapFlags.Move);
        source.AssertTaken(at, Length, 1);
        Assert.True(to == 0 || to == result.Address);
        Assert.True(result.Duplication.IsMove);
        target.AssertContent(result.Address, Length, 1, step: 3);
        result.Duplication.Finish();
        AssertCompletes(result);
        target.AssertContent(result.Address, Length, 1, step: 3);
        Assert.DoesNotContain(Smaps.Within(target.Pid, result.Address, Length), vma => vma.Flags.Contains("um", StringComparison.Ordinal));
        others?.AssertUnchanged(new PageRange(at, at + Length));
    }

    [Fact]
    public void A_source_that_may_have_no_pending_signal_is_clean_afterwards()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        // A timer takes one: the holder has to end without.
        source.Limit(Rlimit.PendingSignals, 0);
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Move);
        AssertCompletes(result);
        target.AssertContent(result.Address, Length, 1);
        AssertClean(source);
    }

    [Fact]
    public void Several_mappings_keep_their_protections()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(6 * MiB, 1), old = target.MapFilled(6 * MiB, 2);
        source.Protect(at + MiB, MiB, Prot.Read);
        source.Protect(at + 2 * MiB, MiB, Prot.None);
        source.Protect(at + 4 * MiB, MiB, Prot.Read | Prot.Exec);
        string before = Shape(source, at);
        MmapResult result = Call(source, target, at, 6 * MiB, old, MmapFlags.Move | MmapFlags.Fixed);
        Assert.Equal(before, Shape(target, result.Address));
        source.AssertTaken(at, 6 * MiB, 1);
        AssertCompletes(result);
        target.Protect(result.Address, 6 * MiB, Prot.ReadWrite);
        target.AssertContent(result.Address, 6 * MiB, 1);
        AssertClean(source);

        static string Shape(AddressSpace space, ulong at) => string.Join(' ', Smaps.Within(space.Pid, at, 6 * MiB).Select(
            vma => $"{Math.Max(vma.Range.Start, at) - at:x}-{Math.Min(vma.Range.End - at, 6 * MiB):x}:{vma.Permissions}"));
    }

    [Theory]
    [InlineData("kill")]
    [InlineData("exit")]
    [InlineData("exec")]
    public void The_source_goes_away_meanwhile(string how)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(64 * MiB, 1), rest = source.MapFilled(64 * MiB, 2);
        MmapResult result = Call(source, target, at, 64 * MiB, flags: MmapFlags.Move | MmapFlags.Lazy);
        Assert.NotEqual(0UL, rest);
        if (how == "kill") source.Kill();
        else if (how == "exec") source.Exec();
        else
        {
            source.Post($"exit 0");
            Assert.Equal(0, Theatre.Nursery.WaitForEnd(source.Pid));
        }
        // its other memory is given back at once, long before the fill is done
        Eventually.Holds(() => ProcessStatus.Figure(result.Duplication.HolderPid, "RssAnon") < 66 * MiB, "the holder gives back the source's other memory");
        target.AssertContent(result.Address, 64 * MiB, 1);
        AssertEnds(result.Duplication, DuplicationState.Complete);
    }

    [Fact]
    public void What_is_handed_over_is_in_no_child_and_no_core_file_of_the_source()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Move | MmapFlags.Lazy);
        // Before Linux 6.17 it may be in several pieces.
        ILookup<bool, Vma> resident = Smaps.Read(source.Pid).Where(vma => vma.IsPrivateAnonymous && vma.Resident > 0).ToLookup(vma => vma.Has("dc") && vma.Has("dd"));
        Assert.NotEmpty(resident[true]);
        Assert.InRange(resident[true].Sum(vma => (long)vma.Resident), (long)Length, long.MaxValue);
        Assert.All(resident[false], vma => Assert.True(vma.Resident < Length / 2, $"{vma.Range} goes into a child or a core file"));
        target.AssertContent(result.Address, Length, 1);
        AssertEnds(result.Duplication, DuplicationState.Complete);
    }

    [Fact]
    public void A_child_of_the_source_shares_nothing_hidden()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Move | MmapFlags.Lazy);
        Puppet child = ForkOf(source);
        Assert.InRange(ProcessStatus.Figure(child.Pid, "RssAnon"), 0UL, Length / 2);
        Assert.DoesNotContain("memfd:pvmmap", File.ReadAllText($"/proc/{child.Pid}/maps"), StringComparison.Ordinal);
        Assert.Contains("memfd:pvmmap", File.ReadAllText($"/proc/{source.Pid}/maps"), StringComparison.Ordinal);
        target.AssertContent(result.Address, Length, 1);
        AssertEnds(result.Duplication, DuplicationState.Complete);
        AssertClean(source);
    }

    [Fact]
    public void The_source_changes_its_other_mappings_and_maps_anew_where_the_range_was()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1), other = source.MapFilled(Length, 2);
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Move | MmapFlags.Lazy);
        source.Map(Length, Prot.ReadWrite, MapFlags.Fixed, at);
        source.Fill(at, Length, 3);
        source.Unmap(other, Length / 2);
        source.Protect(other + Length / 2, MiB, Prot.Read);
        target.AssertContent(result.Address, Length, 1);
        source.AssertContent(at, Length, 3);
        source.AssertContent(other + Length / 2, Length / 2, 2, Length / 2 / Page);
        AssertEnds(result.Duplication, DuplicationState.Complete);
        AssertClean(source);
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void There_and_back_again(Way way)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong at = source.Map(Length);
        source.Fill(at, Length, 1);
        for (int round = 0; round < 10; round++)
        {
            // the second begins while the first is being filled
            MmapResult there = Call(source, target, at, Length, flags: MmapFlags.Move);
            // (a runtime in the source may have taken the old place meanwhile)
            MmapResult back = source.MapsByItself ? Call(target, source, there.Address, Length, flags: MmapFlags.Move)
                : Call(target, source, there.Address, Length, at, MmapFlags.Move | MmapFlags.FixedNoReplace);
            Assert.True(source.MapsByItself || at == back.Address);
            at = back.Address;
            target.AssertTaken(there.Address, Length, 1);
        }
        source.AssertContent(at, Length, 1);
    }

    [Fact]
    public void Within_one_process_too()
    {
        Puppet one = NewPuppet();
        ulong at = one.MapFilled(Length, 1), own = Own.Map(Length);
        Own.Fill(own, Length, 2);
        MmapResult first = Call(one, one, at, Length, flags: MmapFlags.Move), second = Call(Own, Own, own, Length, flags: MmapFlags.Move);
        one.AssertTaken(at, Length, 1);
        one.AssertContent(first.Address, Length, 1);
        Own.AssertContent(second.Address, Length, 2);
        AssertCompletes(first);
        AssertCompletes(second);
    }

    [Fact]
    public void A_range_that_is_gone_cannot_be_moved_again_and_what_is_left_of_it_can()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        MmapResult first = Call(source, target, at, Length / 2, flags: MmapFlags.Move);
        Refused(Errno.EFAULT, source, target, at + Length / 4, Length / 2, flags: MmapFlags.Move);
        MmapResult second = Call(source, target, at + Length / 2, Length / 2, flags: MmapFlags.Move);
        target.AssertContent(first.Address, Length / 2, 1);
        target.AssertContent(second.Address, Length / 2, 1, Length / 2 / Page);
        AssertCompletes(first);
        AssertCompletes(second);
        AssertClean(source);
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void A_refused_call_leaves_the_source_as_it_was(Way way)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong at = MapFilled(source, Length, 1), taken = MapFilled(target, Length, 2);
        ProcessRecord? before = way == Way.Push ? null : ProcessRecord.TakeAtRest(source.Pid);
        Refused(Errno.EEXIST, source, target, at, Length, taken, MmapFlags.Move | MmapFlags.FixedNoReplace);
        source.AssertContent(at, Length, 1);
        target.AssertContent(taken, Length, 2);
        before?.AssertUnchanged();
    }

    [Fact]
    public void A_target_that_refuses_at_the_last_leaves_the_source_as_it_was()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(64 * MiB, 1), old = target.MapFilled(64 * MiB, 2);
        ProcessRecord before = ProcessRecord.TakeAtRest(source.Pid);
        target.Limit(Rlimit.AddressSpace, ProcessStatus.Figure(target.Pid, "VmSize") + 8 * MiB);
        Refused(Errno.ENOMEM, source, target, at, 64 * MiB, flags: MmapFlags.Move);
        Refused(Errno.ENOMEM, source, target, at, 64 * MiB, old, MmapFlags.Move | MmapFlags.Fixed);
        source.AssertContent(at, 64 * MiB, 1);
        target.AssertContent(old, 64 * MiB, 2);
        before.AssertUnchanged();
    }

    [Fact]
    public void The_holder_is_killed_and_the_guardian_goes_on_serving()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(64 * MiB, 1);
        // of a fill that may be over already the C function does not say who held it
        foreach (MmapFlags fill in (MmapFlags[])(Through == Through.CFunction ? [MmapFlags.Lazy] : [MmapFlags.Lazy, MmapFlags.None]))
        {
            MmapResult result = Call(source, target, at, 64 * MiB, flags: MmapFlags.Move | fill);
            target.AssertContent(result.Address, MiB, 1);
            Puppet child = ForkOf(target);
            Libc.Kill(result.Duplication.HolderPid, Libc.SIGKILL);
            child.AssertContent(result.Address, 64 * MiB, 1);
            target.AssertContent(result.Address, 64 * MiB, 1);
            result.Duplication.Finish();
            AssertCompletes(result);
            child.Kill();
            AssertClean(source);
            at = source.MapFilled(64 * MiB, 1);
        }
    }

    [Theory]
    [InlineData(1UL)]
    [InlineData(7UL)]
    [InlineData(4095UL)]
    public void An_unaligned_range_takes_whole_pages(ulong offset)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(3 * Page, 1);
        MmapResult result = Call(source, target, at + offset, Page + 1, flags: MmapFlags.Move);
        Assert.Equal((result.Address + offset, 2 * Page), (result.DataAddress, result.Length));
        source.AssertTaken(at, 2 * Page, 1);
        source.AssertContent(at + 2 * Page, Page, 1, 2);
        target.AssertContent(result.Address, result.Length, 1);
        AssertCompletes(result);
    }

    [Fact]
    public void Locked_memory_and_huge_pages_are_handed_over()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong locked = source.MapFilled(4 * MiB, 1), huge = source.Map(Length);
        source.Must(source.Syscall(Sys.mlock, (long)locked, 4 * (long)MiB), "mlock");
        source.Must(source.Syscall(Sys.madvise, (long)huge, (long)Length, 14), "madvise");
        source.Fill(huge, Length, 2);
        MmapResult first = Call(source, target, locked, 4 * MiB, flags: MmapFlags.Move), second = Call(source, target, huge, Length, flags: MmapFlags.Move);
        AssertCompletes(first);
        AssertCompletes(second);
        target.AssertContent(first.Address, 4 * MiB, 1);
        target.AssertContent(second.Address, Length, 2);
        AssertClean(source);
        Assert.Equal(0UL, ProcessStatus.Figure(source.Pid, "VmLck"));
    }

    /// <summary>Nothing of ours stays in the source's memory.</summary>
    private static void AssertClean(AddressSpace source) =>
        Eventually.Holds(() => !File.ReadAllText($"/proc/{source.Pid}/maps").Contains("pvmmap-control", StringComparison.Ordinal), "the source's maps are clean");
}
