using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>What a Duplication tells of the fill behind the call.</summary>
public sealed class DuplicationTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 16 * MiB;

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
