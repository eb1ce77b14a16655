using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>What a Duplication tells of the fill behind the call.</summary>
public sealed class DuplicationTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 16 * MiB;

    // CAP_SYS_RESOURCE, bit 24 (linux/capability.h)
    private static bool MayShield() => (Convert.ToUInt64(File.ReadLines("/proc/self/status").First(line => line.StartsWith("CapEff:", StringComparison.Ordinal))[7..].Trim(), 16) >> 24 & 1) != 0;

    [Theory]
    [InlineData(MmapFlags.None)]
    [InlineData(MmapFlags.Move)]
    public void Its_processes_are_where_an_administrator_wants_them(MmapFlags mode)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(4 * MiB, 1);
        File.WriteAllText($"/proc/{source.Pid}/oom_score_adj", "300");
        File.WriteAllText($"/proc/{target.Pid}/oom_score_adj", "100");
        string cgroup = $"/sys/fs/cgroup/pids/pvmmap-{target.Pid}";
        Machine.RequirePidsCgroup();
        Directory.CreateDirectory(cgroup);
        try
        {
            File.WriteAllText($"{cgroup}/cgroup.procs", $"{target.Pid}");
            MmapResult result = Call(source, target, at, 4 * MiB, flags: MmapFlags.Lazy | mode);
            Duplication fill = result.Duplication;
            int[] ours = [fill.HolderPid, fill.GuardianPid, fill.SentinelPid];
            Assert.All(ours, pid => Assert.Equal(File.ReadAllText($"/proc/{target.Pid}/cgroup"), File.ReadAllText($"/proc/{pid}/cgroup")));
            string[] scores = [.. ours.Select(pid => File.ReadAllText($"/proc/{pid}/oom_score_adj").Trim())];
            string least = MayShield() ? "-1000" : "0";
            // those that share the source's memory have its score: the kernel keeps one for all of them
            Assert.Equal(mode == MmapFlags.Move ? ["300", "300", least] : ["100", least, least], scores);
            Assert.Equal("300", File.ReadAllText($"/proc/{source.Pid}/oom_score_adj").Trim());
            target.AssertContent(result.Address, 4 * MiB, 1);
            AssertEnds(fill, DuplicationState.Complete);
            Eventually.Holds(() => File.ReadAllLines($"{cgroup}/cgroup.procs").Length == 1, "only the target is left in its cgroup");
        }
        finally
        {
            target.Kill();
            Eventually.Holds(() => File.ReadAllLines($"{cgroup}/cgroup.procs").Length == 0, "the cgroup is empty");
            Directory.Delete(cgroup);
        }
    }

    [Theory]
    [InlineData(Way.Pull, false)]
    [InlineData(Way.Pull, true)]
    [InlineData(Way.Push, false)]
    [InlineData(Way.ThirdParty, false)]
    [InlineData(Way.ThirdParty, true)]
    public void Holder_and_guardian_keep_nothing_of_the_source_but_the_range(Way way, bool hasMuchElse)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        if (hasMuchElse) MapFilled(source, 128 * MiB, 2);
        ulong at = MapFilled(source, Length, 1);
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Lazy);
        Duplication fill = result.Duplication;
        Assert.Empty(Inherited(fill.GuardianPid));
        // The holder gives it up behind the call.
        Eventually.Holds(() => Inherited(fill.HolderPid).Count == 0, $"the holder has only the range and what is its own: {string.Join("; ", Inherited(fill.HolderPid))}");
        target.AssertContent(result.Address, Length, 1);
        AssertEnds(fill, DuplicationState.Complete);

        // Its code and stacks are all it has without a name.
        List<Procfs.Vma> Inherited(int pid) => [.. Procfs.Maps.Read(pid).Where(vma => !vma.IsSpecial && !vma.Path.StartsWith("/memfd:pvmmap-", StringComparison.Ordinal)
            && !vma.Range.Overlaps(new PageRange(at, at + Length)) && (vma.IsFileBacked || vma.Range.Length > MiB / 4))];
    }

    [Fact]
    public async Task A_lazy_fill_can_be_followed_and_finished()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Lazy);
        Duplication fill = result.Duplication;
        Assert.Equal((source.Pid, target.Pid), (fill.SourcePid, fill.TargetPid));
        Assert.Equal((result.Address, Length), (fill.Address, fill.Length));
        Assert.Equal((DuplicationState.Lazy, Length, Length), (fill.State, fill.BytesTotal, fill.BytesToGo));
        Assert.True(Leftovers.IsOurs(fill.HolderPid) && Leftovers.IsOurs(fill.GuardianPid), Describe(fill));
        Assert.False(fill.Wait(TimeSpan.FromMilliseconds(50)));
        Assert.False(fill.Completion.IsCompleted);
        target.Touch(result.Address, MiB);
        Eventually.Holds(() => fill.FaultsServed > 0 && fill.BytesToGo <= Length - MiB, $"touched pages are counted: {Describe(fill)}");
        Assert.Contains(Duplication.Running(), running => running.HolderPid == fill.HolderPid
            && (running.SourcePid, running.TargetPid, running.Length) == (source.Pid, target.Pid, Length));
        fill.Finish();
        Assert.Equal(DuplicationState.Complete, await fill.Completion.WaitAsync(TimeSpan.FromSeconds(20), TestContext.Current.CancellationToken));
        Assert.Equal((DuplicationState.Complete, 0UL), (fill.State, fill.BytesToGo));
        Eventually.Holds(() => !Leftovers.IsOurs(fill.HolderPid) && !Leftovers.IsOurs(fill.GuardianPid), "holder and guardian end");
        Assert.DoesNotContain(Duplication.Running(), running => running.TargetPid == target.Pid);
        target.AssertContent(result.Address, Length, 1);
    }

    [Theory]
    [InlineData(MmapFlags.None)]
    [InlineData(MmapFlags.Move)]
    public void Who_goes_through_memory_in_order_soon_waits_for_few_pages(MmapFlags mode)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Lazy | mode);
        target.Touch(result.Address, MiB);
        // 4, 8, 16, 32, 64, and then 64 pages at a time.
        Assert.InRange(result.Duplication.FaultsServed, 1UL, 9UL);
        result.Duplication.Finish();
        AssertEnds(result.Duplication, DuplicationState.Complete);
        target.AssertContent(result.Address, Length, 1);
    }

    [Fact]
    public void Who_jumps_about_is_given_little_more_than_the_page()
    {
        const ulong apart = 256 * 1024, piece = 16 * 1024;
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        Duplication fill = Call(source, target, at, Length, flags: MmapFlags.Lazy).Duplication;
        ulong count = Length / apart;
        for (ulong i = 0; i < count; i++) target.Touch(fill.Address + i * 7 % count * apart, Page);
        Assert.Equal(count, fill.FaultsServed);
        // What lies behind a page is delivered only if nobody waits.
        Eventually.Holds(() => Smaps.Resident(target.Pid, fill.Address, Length) == fill.BytesTotal - fill.BytesToGo, $"what is in place is counted: {Describe(fill)}");
        Assert.InRange(fill.BytesTotal - fill.BytesToGo, (count * Page) + piece - Page, count * piece);
    }

    [Fact]
    public void A_background_fill_ends_by_itself()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(128 * MiB, 1);
        MmapResult result = Call(source, target, at, 128 * MiB);
        AssertEnds(result.Duplication, DuplicationState.Complete);
        Assert.Equal(128 * MiB, Smaps.Resident(target.Pid, result.Address, 128 * MiB));
    }

    [Fact]
    public void A_lazy_fill_ends_by_itself_once_every_page_was_touched()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Lazy);
        target.AssertContent(result.Address, Length, 1);
        AssertEnds(result.Duplication, DuplicationState.Complete);
    }

    [Fact]
    public void Disposing_the_Duplication_does_not_end_the_fill()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        MmapResult result = ProcessVm.MmapBetween(source.Pid, target.Pid, at, Length, flags: MmapFlags.Lazy);
        int holder = result.Duplication.HolderPid;
        result.Duplication.Dispose();
        target.AssertContent(result.Address, Length, 1);
        Eventually.Holds(() => !Leftovers.IsOurs(holder), "the holder ends when all is served");
    }

    [Fact]
    public void The_result_tells_times()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        MmapResult between = Call(source, target, at, Length);
        Assert.True(between.CallTime >= between.SourceStopTime && between.SourceStopTime > TimeSpan.Zero && between.TargetStopTime > TimeSpan.Zero);
        MmapResult pull = Call(source, Own, at, Length);
        Assert.True(pull.TargetStopTime == TimeSpan.Zero && pull.SourceStopTime > TimeSpan.Zero);
        MmapResult push = Call(Own, target, MapFilled(Own, MiB, 2), MiB);
        Assert.True(push.SourceStopTime == TimeSpan.Zero && push.TargetStopTime > TimeSpan.Zero);
    }
}
