using CsCheck;
using Pvmmap.Holder;
using Xunit;

namespace Pvmmap.Tests.Holder;

public sealed unsafe class GuardianTests
{
    [Fact]
    public void Whenever_the_holder_is_killed_no_owed_page_reads_as_zeros() =>
        Gen.Select(Gen.ULong, Gen.Int[1, 60], Gen.Int[0, 80], Gen.Int[0, 400]).Sample((seed, pages, actions, killAfter) =>
        {
            using Scenario scenario = new(seed, pages, actions);
            scenario.Kernel.KillAfter = killAfter;
            scenario.RunHolder();
            bool serving = scenario.Control->State == ControlState.Serving;
            scenario.RunGuardian();
            Assert.Equal(serving, scenario.Control->State == ControlState.Lost);
            scenario.Kernel.CheckAllAfterRelease();
        }, iter: 10_000);

    [Fact]
    public void Nor_when_it_is_killed_between_two_stores() =>
        Gen.Select(Gen.ULong, Gen.Int[1, 60], Gen.Int[0, 80], Gen.Int[0, 400]).Sample((seed, pages, actions, store) =>
        {
            using Scenario scenario = new(seed, pages, actions);
            scenario.Kernel.KillAtStore = store;
            scenario.RunHolder();
            scenario.RunGuardian();
            scenario.Kernel.CheckAllAfterRelease();
        }, iter: 5_000);

    [Fact]
    public void Nor_when_the_tables_were_full() =>
        Gen.Select(Gen.ULong, Gen.Int[1, 60], Gen.Int[0, 80], Gen.Int[0, 400]).Sample((seed, pages, actions, killAfter) =>
        {
            using Scenario scenario = new(seed, pages, actions) { Cramped = true };
            scenario.Kernel.KillAfter = killAfter;
            FakeKernel kernel = scenario.Kernel;
            kernel.Forks = 20;
            kernel.OnIdle = () =>
            {
                // With a child that could not even be poisoned the guardian stays as long as anybody is there.
                if (scenario.Control->State == ControlState.Lost) kernel.EndAllTargets();
            };
            scenario.RunHolder();
            scenario.RunGuardian();
            kernel.CheckAllAfterRelease();
        }, iter: 3_000);

    [Fact]
    public void Killed_at_once_it_leaves_only_poison_and_the_holes_of_the_target()
    {
        using Scenario scenario = new(seed: 5, pages: 100, actions: 0);
        scenario.Kernel.KillAfter = 0;
        Assert.False(scenario.RunHolder());
        scenario.RunGuardian();
        Assert.Equal(100UL, scenario.Control->PoisonedPages);
        Assert.All(scenario.Target.Pages.Values, page => Assert.Equal(PageState.Poisoned, page.State));
    }

    [Fact]
    public void When_the_holder_never_began_to_serve_it_ends_and_touches_nothing()
    {
        using Scenario scenario = new(seed: 7, pages: 50, actions: 0);
        scenario.Control->State = ControlState.Starting;
        scenario.RunGuardian();
        Assert.Equal(ControlState.Starting, scenario.Control->State);
        Assert.Equal((0UL, 0u), (scenario.Control->PoisonedPages, scenario.Control->Withheld));
    }

    [Fact]
    public void After_a_complete_fill_it_touches_nothing()
    {
        using Scenario scenario = new(seed: 9, pages: 50, actions: 0);
        Assert.True(scenario.RunHolder());
        scenario.RunGuardian();
        Assert.Equal(ControlState.Complete, scenario.Control->State);
        Assert.Equal(0UL, scenario.Control->PoisonedPages);
    }
}
