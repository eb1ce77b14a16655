using CsCheck;
using Pvmmap.Holder;
using Xunit;

namespace Pvmmap.Tests.Holder;

public sealed unsafe class HugePageFillTests
{
    private const int PagesInHuge = 512;

    private static readonly Gen<(ulong Seed, int Pages, int Failures)> Ranges = Gen.Select(Gen.ULong, Gen.Int[1, 4 * PagesInHuge], Gen.OneOf(Gen.Const(0), Gen.Int[0, 60]));

    /// <summary>Whatever fails: what has been dropped is in the target, what is not there as a whole is still in the holder, and comes when the target has given up what it has of it.</summary>
    [Fact]
    public void Nothing_is_dropped_before_it_is_in_the_target_as_a_whole() => Ranges.Sample(range =>
    {
        using Scenario scenario = new(range.Seed, range.Pages, actions: 0);
        FakeKernel kernel = scenario.Kernel;
        kernel.ShortWrites = range.Failures;
        kernel.MayWriteByNumber = kernel.Dice.Chance(70);
        scenario.Control->TargetOwnPid = kernel.Dice.Chance(80) ? FakeKernel.TargetNumber : 0;
        bool[] wasHuge = [.. kernel.Source.Select(page => page.Huge)];
        ulong populated = Populated(kernel);
        scenario.FillHugePages();
        Assert.True(kernel.IsTargetMemoryClosed);
        Assert.Equal(populated - Populated(kernel), scenario.Control->BytesDone);
        foreach ((int i, TargetPage page) in scenario.Target.Pages.Values.Index())
        {
            if (!wasHuge[i]) Assert.Equal(PageState.Missing, page.State);
            else if (!kernel.Source[i].IsPopulated) Assert.Equal((PageState.Present, i + 1L), (page.State, page.Content));
            else if (range.Failures == 0 && kernel.HasPagemapScan) Assert.Fail($"huge page {i / PagesInHuge} has been left out");
            if (kernel.Source[i].IsPopulated) page.State = PageState.Missing;
        }
        Assert.True(scenario.RunHolder());
        kernel.CheckAllAfterRelease();
    }, iter: 300);

    [Fact]
    public void By_number_as_long_as_it_is_allowed_and_two_threads_share_it()
    {
        ulong byWorker = 0;
        for (ulong seed = 1; seed <= 20; seed++)
        {
            using Scenario scenario = AllHuge(seed, 16);
            scenario.Control->TargetOwnPid = FakeKernel.TargetNumber;
            scenario.FillHugePages();
            Assert.Equal((16, 0), (scenario.Kernel.WritesByNumber, scenario.Kernel.WritesThroughMemory));
            Assert.Equal(scenario.Control->BytesTotal, scenario.Control->BytesDone);
            byWorker += scenario.Kernel.DeliveredByWorker;
        }
        Assert.InRange(byWorker / ControlPage.HugePageBytes, 100UL, 220UL);

        using Scenario refused = AllHuge(seed: 3, 16);
        refused.Kernel.MayWriteByNumber = false;
        refused.Control->TargetOwnPid = FakeKernel.TargetNumber;
        refused.FillHugePages();
        Assert.Equal((0, 16), (refused.Kernel.WritesByNumber, refused.Kernel.WritesThroughMemory));
        Assert.Equal(0, refused.Control->TargetOwnPid);
    }

    [Fact]
    public void Another_program_in_the_targets_place_is_not_written_to()
    {
        using Scenario scenario = AllHuge(seed: 5, 8);
        scenario.Control->TargetOwnPid = FakeKernel.TargetNumber;
        scenario.Kernel.IsTargetReplaced = true;
        scenario.FillHugePages();
        Assert.Equal(0UL, scenario.Control->BytesDone);
        Assert.All(scenario.Target.Pages.Values, page => Assert.Equal(PageState.Missing, page.State));
    }

    private static Scenario AllHuge(ulong seed, int pages)
    {
        Scenario scenario = new(seed, pages * PagesInHuge, actions: 0) { MayHaveWorker = true };
        scenario.MakeAllPresent();
        scenario.Kernel.HasPagemapScan = true;
        scenario.Kernel.ThreadShortage = 0;
        for (int i = 0; i < scenario.Kernel.Source.Length; i++) scenario.Kernel.Source[i].Huge = true;
        return scenario;
    }

    private static ulong Populated(FakeKernel kernel) => (ulong)kernel.Source.Count(page => page.IsPopulated) * FakeKernel.PageSize;
}
