using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>Transparent huge pages in the target, once every page is in place there (<see cref="Duplication.UseHugePages"/>).</summary>
public sealed class HugePagesTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 16 * MiB, Huge = 2 * MiB;

    [Theory]
    [InlineData(Mode.Copy)]
    [InlineData(Mode.Move)]
    public void What_was_in_huge_pages_can_be_so_again(Mode mode)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapHugeAligned(Length, Madv.HugePage), place = target.MapHugeAligned(Length, Madv.NoHugePage);
        source.Fill(at, Length, 1);
        Assert.Equal(Length, InHugePages(source, at));
        MmapResult result = Call(source, target, at, Length, place, MmapFlags.Fixed | mode.Flag());
        AssertCompletes(result);
        var seen = new List<ulong>();
        Assert.Equal(Length, result.Duplication.UseHugePages(new Progress(seen), Unhurried));
        Assert.Equal(Length, InHugePages(target, place));
        Assert.Equal(Enumerable.Range(1, (int)(Length / Huge)).Select(block => (ulong)block * Huge), seen);
        target.AssertContent(place, Length, 1);
        target.Fill(place, Length, 2);
        if (mode == Mode.Copy) source.AssertContent(at, Length, 1);
        // They are, so there is nothing to do.
        Assert.Equal(Length, result.Duplication.UseHugePages(cancellation: Unhurried));
        target.AssertContent(place, Length, 2);
    }

    [Fact]
    public void A_block_with_holes_and_one_that_may_not_be_stay_as_they_are()
    {
        Machine.Require(!File.ReadAllText("/sys/kernel/mm/transparent_hugepage/enabled").Contains("[always]", StringComparison.Ordinal), "khugepaged, which is not to act by itself here");
        Puppet source = NewPuppet(), target = NewPuppet();
        // Without advice khugepaged leaves it alone.
        ulong at = (source.Map(Length + Huge) + Huge - 1) & ~(Huge - 1), place = target.MapHugeAligned(Length, Madv.NoHugePage);
        source.Fill(at, 4 * Huge, 1);
        source.Fill(at + 4 * Huge, Huge - Page, 1, 4 * Huge / Page);
        source.Must(source.Advise(at + 3 * Huge, Huge, Madv.NoHugePage), "madvise");
        MmapResult result = Call(source, target, at, Length, place, MmapFlags.Fixed);
        AssertCompletes(result);
        ulong before = Smaps.Resident(target.Pid, place, Length);
        target.Unmap(place + Huge, Huge);
        Assert.Equal(2 * Huge, result.Duplication.UseHugePages(cancellation: Unhurried));
        Assert.Equal(before - Huge, Smaps.Resident(target.Pid, place, Length));
        target.AssertContent(place, Huge, 1);
        target.AssertContent(place + 2 * Huge, 2 * Huge, 1, 2 * Huge / Page);
        target.AssertContent(place + 4 * Huge, Huge - Page, 1, 4 * Huge / Page);
    }

    [Fact]
    public void Not_before_every_page_is_there_and_not_in_a_process_that_has_ended()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Lazy);
        Assert.Equal(Errno.EAGAIN, Assert.Throws<PvmmapException>(() => result.Duplication.UseHugePages(cancellation: Unhurried)).Errno);
        result.Duplication.Finish();
        AssertCompletes(result);
        using var cancelled = new CancellationTokenSource();
        cancelled.Cancel();
        Assert.Throws<OperationCanceledException>(() => result.Duplication.UseHugePages(cancellation: cancelled.Token));
        target.Kill();
        Assert.Equal(Errno.ESRCH, Assert.Throws<PvmmapException>(() => result.Duplication.UseHugePages(cancellation: Unhurried)).Errno);
    }

    private static CancellationToken Unhurried => TestContext.Current.CancellationToken;

    private static ulong InHugePages(Puppet process, ulong address) => Smaps.InHugePages(process.Pid, address, Length);

    private sealed class Progress(List<ulong> seen) : IProgress<ulong>
    {
        public void Report(ulong value) => seen.Add(value);
    }
}
