using CsCheck;
using Pvmmap.Holder;
using Xunit;

namespace Pvmmap.Tests.Holder;

/// <summary>A move: the source's pages are not lost with the holder, whose guardian goes on.</summary>
public sealed unsafe class RelocationTests
{
    private static readonly Gen<(ulong Seed, int Pages, int Actions, int KillAfter)> Orders =
        Gen.Select(Gen.ULong, Gen.Int[1, 80], Gen.Int[0, 120], Gen.Int[0, 400]);

    [Fact]
    public void Whatever_source_and_targets_do_every_page_reads_as_it_must() => Orders.Sample(order =>
    {
        using Scenario scenario = Scenario.Move(order.Seed, order.Pages, order.Actions);
        FinishWhenIdle(scenario);
        scenario.Kernel.CallerMayDie = order.KillAfter % 2 == 0;
        Run(scenario);
    }, iter: 5_000);

    [Fact]
    public void Wherever_the_holder_is_killed_no_page_is_lost() => Orders.Sample(order =>
    {
        using Scenario scenario = Scenario.Move(order.Seed, order.Pages, order.Actions);
        FinishWhenIdle(scenario);
        scenario.Kernel.KillAfter = order.KillAfter;
        scenario.Kernel.CallerMayDie = order.KillAfter % 2 == 0;
        Run(scenario);
    }, iter: 10_000);

    [Fact]
    public void Nor_when_it_is_killed_between_two_stores() => Orders.Sample(order =>
    {
        using Scenario scenario = Scenario.Move(order.Seed, order.Pages, order.Actions);
        FinishWhenIdle(scenario);
        scenario.Kernel.KillAtStore = order.KillAfter;
        Run(scenario);
    }, iter: 10_000);

    [Fact]
    public void A_page_that_cannot_be_taken_raises_SIGBUS_in_the_target_and_stays_in_the_source() => Orders.Sample(order =>
    {
        using Scenario scenario = Scenario.Move(order.Seed, order.Pages, order.Actions);
        FinishWhenIdle(scenario);
        scenario.Kernel.KillAfter = order.KillAfter;
        scenario.Kernel.MemoryShortage = 15;
        scenario.Kernel.MovesSeveralVmas = false;
        Run(scenario);
    }, iter: 5_000);

    [Fact]
    public void The_guardian_knows_what_a_remap_that_the_holder_had_read_has_overwritten()
    {
        for (int order = 0; order < 400; order++)
        {
            using Scenario scenario = Quiet(seed: (ulong)order, pieces: 1);
            FakeKernel kernel = scenario.Kernel;
            FakeTarget target = scenario.Target;
            int populated = Array.FindIndex(kernel.Source, 8, page => page.IsPopulated && !page.Unreadable);
            if (populated < 0) continue;
            int idle = 0;
            WhenServing(scenario, () =>
            {
                if (++idle == 1)
                {
                    // To where the region was built.
                    ulong to = scenario.Control->PlacedAt + 4 * FakeKernel.PageSize;
                    ulong from = scenario.Control->DestinationStart + (ulong)populated * FakeKernel.PageSize;
                    kernel.RemapRange(target, target.Threads[1], from, 1, to);
                    kernel.Touch(target, target.Threads[2], to, write: false);
                    kernel.KillAfter = order % 20;
                }
                else if (idle > 10)
                {
                    Assert.Null(target.Threads[2].Fault);
                    scenario.Control->Command = ControlCommand.FinishNow;
                }
            });
            Run(scenario);
        }
    }

    [Fact]
    public void A_child_forked_before_the_region_was_taken_does_not_keep_the_holder_of_a_call_that_failed()
    {
        using Scenario scenario = Quiet(seed: 41, pieces: 1);
        FakeKernel kernel = scenario.Kernel;
        kernel.MayTake = false;
        FakeTarget child = kernel.ForkNow(scenario.Target, scenario.Target.Threads[1]);
        kernel.OnIdle = () =>
        {
            if (child.Running) FakeKernel.Die(scenario.Target);
        };
        Assert.True(scenario.RunHolder());
        Assert.True(child.Alive);
        Assert.Equal(ControlState.TargetGone, scenario.Control->State);
        Assert.DoesNotContain(kernel.Source, page => page.HasArrived);
    }

    [Fact]
    public void A_lazy_holder_sleeps_although_the_source_has_exited_and_another_uses_its_memory()
    {
        using Scenario scenario = Quiet(seed: 43, pieces: 1);
        FakeKernel kernel = scenario.Kernel;
        kernel.HasStranger = true;
        WhenServing(scenario, () =>
        {
            kernel.HasSourceExited = true;
            if (kernel.Sleeps > 20) scenario.Control->Command = ControlCommand.FinishNow;
        });
        Run(scenario);
        Assert.False(kernel.IsSourceReleased);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void When_the_source_has_exited_its_other_memory_goes(bool holderIsKilled)
    {
        using Scenario scenario = Quiet(seed: 47, pieces: 1);
        FakeKernel kernel = scenario.Kernel;
        int idle = 0;
        WhenServing(scenario, () =>
        {
            if (++idle == 1 && holderIsKilled) kernel.KillAfter = 0;
            if (idle > 3) kernel.HasSourceExited = true;
            if (idle > 10) scenario.Control->Command = ControlCommand.FinishNow;
        });
        Run(scenario);
        Assert.Equal(holderIsKilled, kernel.IsHolderDead);
        Assert.True(kernel.IsSourceReleased);
    }

    [Fact]
    public void The_guardian_wakes_who_waits_at_an_address_that_no_table_knows()
    {
        for (int order = 0; order < 400; order++)
        {
            using Scenario scenario = Quiet(seed: (ulong)order, pieces: 1);
            FakeKernel kernel = scenario.Kernel;
            FakeThread thread = scenario.Target.Threads[1];
            int idle = 0;
            WhenServing(scenario, () =>
            {
                if (++idle == 1)
                {
                    (ulong last, TargetPage page) = scenario.Target.Pages.Last();
                    scenario.Target.Pages[last + FakeKernel.PageSize] = new TargetPage { Vma = page.Vma };
                    kernel.Touch(scenario.Target, thread, last + FakeKernel.PageSize, write: false);
                    kernel.KillAfter = order % 20;
                }
                if (idle < 20) return;
                Assert.Null(thread.Fault);
                scenario.Control->Command = ControlCommand.FinishNow;
            });
            Run(scenario);
        }
    }

    [Fact]
    public void The_holder_sleeps_once_more_when_the_call_is_over_so_that_the_caller_returns_before_the_first_batch()
    {
        ulong before = 0, whole = 0;
        for (ulong seed = 1; seed <= 100; seed++)
        {
            using Scenario scenario = Quiet(seed, pieces: 1);
            scenario.Control->Lazy = 0;
            ulong? delivered = null;
            WhenServing(scenario, () => delivered ??= scenario.Control->BytesDone);
            Run(scenario);
            Assert.NotNull(delivered);
            before += delivered.Value;
            whole += scenario.Control->BytesDone;
        }
        Assert.Equal(0UL, before);
        Assert.NotEqual(0UL, whole);
    }

    // A lazy one in which nothing happens but what the test does.
    private static Scenario Quiet(ulong seed, int pieces)
    {
        Scenario scenario = Scenario.Move(seed, pages: 40, actions: 0, pieces);
        scenario.Control->Lazy = 1;
        FakeKernel kernel = scenario.Kernel;
        kernel.Forks = 0;
        kernel.MayBeGivenUp = false;
        kernel.SourceMayLeave = false;
        kernel.HasStranger = false;
        return scenario;
    }

    // Whenever a process sleeps once the region is in place and the call over.
    private static void WhenServing(Scenario scenario, Action act) => scenario.Kernel.OnIdle = () =>
    {
        if (scenario.Control->State == ControlState.Serving && scenario.Control->CallIsOpen == 0) act();
    };

    private static void FinishWhenIdle(Scenario scenario) =>
        scenario.Kernel.OnIdle = () => scenario.Control->Command = ControlCommand.FinishNow;

    // To the end of the holder, or of the guardian in its place.
    private static void Run(Scenario scenario)
    {
        FakeKernel kernel = scenario.Kernel;
        if (!scenario.RunHolder() && !kernel.IsGuardianDead) scenario.RunGuardian();
        Assert.True(scenario.Control->State is ControlState.Complete or ControlState.TargetGone);
        if (scenario.Control->Committed != 0) kernel.CheckAllAfterRelease();
        else Assert.DoesNotContain(kernel.Source, page => page.HasArrived);
    }
}
