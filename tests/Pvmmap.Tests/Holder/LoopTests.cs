using CsCheck;
using Pvmmap.Holder;
using Xunit;

namespace Pvmmap.Tests.Holder;

public sealed unsafe class LoopTests
{
    private static readonly Gen<(ulong Seed, int Pages, int Actions)> Orders = Gen.Select(Gen.ULong, Gen.Int[1, 80], Gen.Int[0, 120]);

    [Fact]
    public void Whatever_the_targets_do_every_page_reads_as_the_source_or_zero_as_it_must() => Orders.Sample(order =>
    {
        using Scenario scenario = new(order.Seed, order.Pages, order.Actions);
        Assert.True(scenario.RunHolder());
        Assert.True(scenario.Control->State is ControlState.Complete or ControlState.TargetGone);
        scenario.Kernel.CheckAllAfterRelease();
    }, iter: 10_000);

    [Fact]
    public void A_lazy_holder_delivers_what_is_touched_and_the_rest_when_told_to() => Orders.Sample(order =>
    {
        using Scenario scenario = new(order.Seed, order.Pages, order.Actions);
        scenario.Control->Lazy = 1;
        scenario.Kernel.OnIdle = () => scenario.Control->Command = ControlCommand.FinishNow;
        Assert.True(scenario.RunHolder());
        scenario.Kernel.CheckAllAfterRelease();
    }, iter: 3_000);

    [Fact]
    public void A_lazy_holder_ends_by_itself_when_everything_was_touched()
    {
        using Scenario scenario = new(seed: 3, pages: 40, actions: 0);
        scenario.Control->Lazy = 1;
        int next = 0;
        scenario.Kernel.OnIdle = () =>
        {
            if (next < scenario.Kernel.Source.Length && scenario.Target.Threads[0].IsIdle)
                scenario.Kernel.Touch(scenario.Target, scenario.Target.Threads[0], scenario.Target.Pages.Keys.ElementAt(next++), write: false);
        };
        Assert.True(scenario.RunHolder());
        Assert.Equal(ControlState.Complete, scenario.Control->State);
        Assert.Equal(scenario.Control->BytesTotal, scenario.Control->BytesDone);
        scenario.Kernel.CheckAllAfterRelease();
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public void So_it_does_when_there_was_a_child_that_has_ended_or_has_touched_everything_too(bool childTouches, bool childUnmaps)
    {
        for (ulong seed = 1; seed <= 100; seed++)
        {
            using Scenario scenario = new(seed, pages: 100, actions: 0);
            FakeKernel kernel = scenario.Kernel;
            (kernel.HasPagemapScan, kernel.MappingShortage) = (true, 0);
            scenario.Control->Lazy = 1;
            scenario.MakeAllPresent();
            FakeTarget parent = scenario.Target, child = kernel.ForkNow(parent, parent.Threads[0]);
            ulong[] order = [.. parent.Pages.Keys.OrderBy(_ => kernel.Dice.Below(1000))];
            int next = 0, nextOfChild = 0;
            kernel.OnTouched = (target, thread) =>
            {
                if (target == parent && next < order.Length) kernel.Touch(parent, thread, order[next++], write: false);
                // The child makes do with the first of them.
                else if (target == child && nextOfChild < (childUnmaps ? order.Length / 2 : order.Length)) kernel.Touch(child, thread, child.Pages.Keys.ElementAt(nextOfChild++), write: false);
            };
            bool begun = false, ended = false;
            kernel.OnIdle = () =>
            {
                if (!begun) kernel.Touch(parent, parent.Threads[1], order[next++], write: false);
                if (!begun && childTouches) kernel.Touch(child, child.Threads[0], child.Pages.Keys.ElementAt(nextOfChild++), write: false);
                begun = true;
                if (next < order.Length || (childTouches && !child.Threads[0].IsIdle) || ended) return;
                ended = true;
                if (!childTouches) FakeKernel.Die(child);
                else if (childUnmaps) kernel.UnmapRange(child, child.Threads[0], child.Pages.Keys.ElementAt(order.Length / 2), child.Pages.Keys.Last() + FakeKernel.PageSize);
            };
            Assert.True(scenario.RunHolder());
            Assert.Equal(ControlState.Complete, scenario.Control->State);
            Assert.Equal(scenario.Control->BytesTotal, scenario.Control->BytesDone);
            Assert.All(kernel.Source, page => Assert.False(page.IsPopulated));
            kernel.CheckAllAfterRelease();
        }
    }

    [Fact]
    public void Huge_pages_are_delivered_whole_whatever_the_targets_do() => Orders.Sample(order =>
    {
        using Scenario scenario = new(order.Seed, 512 + order.Pages * 12, order.Actions);
        Assert.True(scenario.RunHolder());
        scenario.Kernel.CheckAllAfterRelease();
    }, iter: 100);

    [Fact]
    public void A_quiet_fill_counts_every_populated_byte_once()
    {
        using Scenario scenario = new(seed: 7, pages: 300, actions: 0);
        Assert.True(scenario.RunHolder());
        Assert.Equal(ControlState.Complete, scenario.Control->State);
        Assert.Equal(scenario.Control->BytesTotal, scenario.Control->BytesDone);
        Assert.Equal(0UL, scenario.Control->Errors);
        Assert.All(scenario.Kernel.Source, page => Assert.False(page.IsPopulated));
    }

    [Fact]
    public void What_is_counted_behind_the_call_is_what_there_was_whoever_waits_for_a_page_meanwhile() => Orders.Sample(order =>
    {
        using Scenario scenario = new(order.Seed, order.Pages, actions: 0) { CountsLater = true };
        FakeKernel kernel = scenario.Kernel;
        // Entries do not tell the zero page from others.
        kernel.HasPagemapScan = true;
        kernel.CopyShortage = order.Actions % 3 == 0 ? 20 : 1;
        ulong populated = scenario.Control->BytesTotal;
        // From the end, where it is counted last.
        Stack<ulong> pages = new(scenario.Target.Pages.Keys.Order());
        kernel.OnTouched = (target, thread) =>
        {
            if (pages.TryPop(out ulong page)) kernel.Touch(target, thread, page, write: order.Actions % 2 == 0);
        };
        foreach (FakeThread thread in scenario.Target.Threads) kernel.OnTouched(scenario.Target, thread);
        Assert.True(scenario.RunHolder());
        Assert.Equal(ControlState.Complete, scenario.Control->State);
        if (scenario.Control->Errors == 0) Assert.Equal((populated, populated), (scenario.Control->BytesTotal, scenario.Control->BytesDone));
        kernel.CheckAllAfterRelease();
    }, iter: 3_000);

    [Fact]
    public void Nothing_is_counted_before_the_call_is_over_and_all_of_it_before_the_holder_sleeps()
    {
        using Scenario scenario = new(seed: 7, pages: 60, actions: 0) { CountsLater = true };
        scenario.Kernel.HasPagemapScan = true;
        ulong populated = scenario.Control->BytesTotal, range = scenario.Control->SourceLength;
        scenario.Control->Lazy = 1;
        (scenario.Control->CallIsOpen, scenario.Kernel.CallStaysOpen) = (1, true);
        List<ulong> totals = [];
        scenario.Kernel.OnIdle = () =>
        {
            totals.Add(scenario.Control->BytesTotal);
            if (totals.Count == 3) scenario.Kernel.CallStaysOpen = false;
            if (totals.Count == 6) scenario.Control->Command = ControlCommand.FinishNow;
        };
        Assert.True(scenario.RunHolder());
        Assert.NotEqual(range, populated);
        Assert.All(totals[..3], total => Assert.Equal(range, total));
        Assert.Equal(populated, totals[^1]);
    }

    [Fact]
    public void A_second_thread_delivers_half_of_a_quiet_fill()
    {
        ulong delivered = 0, byWorker = 0;
        for (ulong seed = 1; seed <= 200; seed++)
        {
            int pages = 100 + (int)seed;
            using Scenario scenario = new(seed, pages, actions: 0) { MayHaveWorker = true };
            FakeKernel kernel = scenario.Kernel;
            kernel.ThreadShortage = 0;
            scenario.Control->BatchBytes = FakeKernel.PageSize;
            scenario.MakeAllPresent();
            Assert.True(scenario.RunHolder());
            Assert.Equal(ControlState.Complete, scenario.Control->State);
            Assert.Equal(scenario.Control->BytesTotal, scenario.Control->BytesDone);
            kernel.CheckAllAfterRelease();
            delivered += scenario.Control->BytesTotal;
            byWorker += kernel.DeliveredByWorker;
        }
        Assert.InRange(byWorker, delivered / 4, delivered * 3 / 4);
    }

    [Theory]
    [InlineData(1, 0)]
    [InlineData(2, 100)]
    public void Without_a_processor_or_a_task_for_it_there_is_no_second_thread(int processors, int shortage)
    {
        using Scenario scenario = new(seed: 7, pages: 300, actions: 0) { MayHaveWorker = true };
        (scenario.Kernel.Processors, scenario.Kernel.ThreadShortage) = (processors, shortage);
        Assert.True(scenario.RunHolder());
        Assert.False(scenario.Kernel.HasWorker);
        Assert.Equal(scenario.Control->BytesTotal, scenario.Control->BytesDone);
        Assert.Equal(ControlState.Complete, scenario.Control->State);
    }

    [Fact]
    public void What_finds_no_room_in_the_tables_is_poisoned_never_zeroed() => Orders.Sample(order =>
    {
        using Scenario scenario = new(order.Seed, order.Pages, order.Actions) { Cramped = true };
        FakeKernel kernel = scenario.Kernel;
        kernel.Forks = 20;
        // With a child that could not even be poisoned the holder stays for ever.
        kernel.OnIdle = () => kernel.KillAfter = scenario.Control->Withheld != 0 && kernel.ActionsLeft == 0 ? 0 : int.MaxValue;
        if (scenario.RunHolder()) kernel.CheckAllAfterRelease();
        else Assert.Equal(1u, scenario.Control->Withheld);
    }, iter: 3_000);

    [Theory]
    [InlineData(1, 0)]
    [InlineData(2, 3)]
    [InlineData(3, 4)]
    [InlineData(4, 6)]
    [InlineData(5, 8)]
    [InlineData(6, 9)]
    public void A_child_that_found_no_room_keeps_the_holder_whatever_number_its_userfaultfd_has(uint room, int number)
    {
        using Scenario scenario = new(seed: 23, pages: 40, actions: 0) { Cramped = true, ContextLimit = room };
        FakeKernel kernel = scenario.Kernel;
        scenario.Control->Lazy = 1;
        FakeTarget child = scenario.Target;
        for (uint i = 0; i < room; i++) child = kernel.ForkNow(scenario.Target, scenario.Target.Threads[0]);
        // An event of its own, which nobody will read, keeps its pages from being poisoned.
        ulong first = child.Pages.Keys.First();
        kernel.UnmapRange(child, child.Threads[0], first, first + FakeKernel.PageSize);
        Assert.Contains(child.Pages.Values, page => page.Expected != 0);
        int idle = 0;
        kernel.OnIdle = () =>
        {
            if (scenario.Control->Withheld == 0) return;
            if (++idle == 1) kernel.Targets.Where(target => target != child).ToList().ForEach(FakeKernel.Die);
            if (idle == 10) FakeKernel.Die(child);
        };
        Assert.True(scenario.RunHolder());
        Assert.Equal(number, child.Descriptor);
        Assert.False(child.Alive, "the holder left a child that still waits for pages");
    }

    [Theory]
    [InlineData(3, 10, 1)]
    [InlineData(64, 10, 4)]
    public void Children_that_have_ended_leave_their_room_to_the_next_ones_without_a_pause(uint contexts, uint segments, int pieces)
    {
        const int forks = 100;
        using Scenario scenario = new(seed: 31, pages: 40, actions: 0) { Cramped = true, ContextLimit = contexts, SegmentRoom = segments };
        FakeKernel kernel = scenario.Kernel;
        scenario.Control->Lazy = 1;
        scenario.MakeAllPresent();
        FakeTarget parent = scenario.Target;
        ulong first = parent.Pages.Keys.First();
        for (ulong i = 1; i < (ulong)pieces; i++)
            kernel.UnmapRange(parent, parent.Threads[0], first + i * 4 * FakeKernel.PageSize, first + (i * 4 + 1) * FakeKernel.PageSize);
        int ended = 0;
        FakeTarget? child = null;
        void Fork()
        {
            if (ended == forks) scenario.Control->Command = ControlCommand.FinishNow;
            else if (child is not { Alive: true } && parent.Threads.FirstOrDefault(thread => thread.IsIdle) is { } thread)
            {
                child = kernel.ForkNow(parent, thread);
                kernel.Touch(child, child.Threads[0], child.Pages.Keys.Last(), write: false);
            }
        }
        kernel.OnIdle = Fork;
        kernel.OnTouched = (target, _) =>
        {
            Assert.Same(child, target);
            FakeKernel.Die(target);
            ended++;
            Fork();
        };
        Assert.True(scenario.RunHolder());
        Assert.Equal((forks, 0UL, 0u), (ended, scenario.Control->PoisonedPages, scenario.Control->Withheld));
        kernel.CheckAllAfterRelease();
    }

    [Fact]
    public void A_parent_that_ends_when_there_is_no_room_leaves_its_pages_to_its_child()
    {
        using Scenario scenario = new(seed: 37, pages: 40, actions: 0) { Cramped = true, ContextLimit = 2 };
        FakeKernel kernel = scenario.Kernel;
        scenario.Control->Lazy = 1;
        scenario.MakeAllPresent();
        FakeTarget first = kernel.ForkNow(scenario.Target, scenario.Target.Threads[0]);
        FakeTarget second = kernel.ForkNow(scenario.Target, scenario.Target.Threads[1]);
        bool begun = false;
        kernel.OnRead = (target, happened) =>
        {
            if (happened.Child != second) return;
            FakeKernel.Die(first);
            FakeKernel.Die(scenario.Target);
        };
        kernel.OnIdle = () =>
        {
            if (!begun) kernel.Touch(second, second.Threads[0], second.Pages.Keys.First(), write: false);
            begun = true;
            if (second.Threads[0].IsIdle) scenario.Control->Command = ControlCommand.FinishNow;
        };
        Assert.True(scenario.RunHolder());
        Assert.True(begun);
        Assert.Equal(0UL, scenario.Control->PoisonedPages);
        Assert.All(second.Pages.Values, page => Assert.Equal(page.Expected, page.Content));
    }

    [Fact]
    public void A_child_for_which_there_is_no_descriptor_waits_for_another_to_end_and_the_holder_sleeps_meanwhile()
    {
        using Scenario scenario = new(seed: 41, pages: 40, actions: 0);
        FakeKernel kernel = scenario.Kernel;
        scenario.Control->Lazy = 1;
        kernel.DescriptorLimit = HolderFds.HolderPidfd + 1;
        List<FakeTarget> children = [];
        int idle = 0, waited = 0;
        long calls = 0;
        kernel.OnIdle = () =>
        {
            if (++idle % 10 != 0) return;
            if (scenario.Target.Threads.FirstOrDefault(thread => thread.IsIdle) is { } thread && children.Count < 12) children.Add(kernel.ForkNow(scenario.Target, thread));
            else if (children.Exists(child => !child.Running))
            {
                waited++;
                Assert.InRange(kernel.Calls - calls, 1, 10_000);
                FakeKernel.Die(children.First(child => child.Alive));
            }
            else scenario.Control->Command = ControlCommand.FinishNow;
            calls = kernel.Calls;
        };
        Assert.True(scenario.RunHolder());
        Assert.InRange(waited, 3, 12);
        Assert.Equal(12UL, scenario.Control->Forks);
        kernel.CheckAllAfterRelease();
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void What_is_inherited_from_the_source_is_no_page_of_a_region_that_grew(bool callStaysOpen)
    {
        for (ulong seed = 1; seed <= 50; seed++)
        {
            using Scenario scenario = new(seed, pages: 10, actions: 0) { PostponesInheritance = true };
            FakeKernel kernel = scenario.Kernel;
            kernel.InheritedPage = 0x10000;
            scenario.Control->Lazy = 1;
            (scenario.Control->CallIsOpen, kernel.CallStaysOpen) = (1, callStaysOpen);
            ulong end = scenario.Target.Pages.Keys.Last() + FakeKernel.PageSize;
            int vma = scenario.Target.Pages.Values.Last().Vma;
            for (ulong i = 0; i < 4; i++) scenario.Target.Pages[end + i * FakeKernel.PageSize] = new TargetPage { Vma = vma };
            int idle = 0;
            kernel.OnIdle = () =>
            {
                if (idle++ == 0) kernel.Touch(scenario.Target, scenario.Target.Threads[0], end, write: false);
                if (!scenario.Target.Threads[0].IsIdle) return;
                kernel.CallStaysOpen = false;
                scenario.Control->Command = ControlCommand.FinishNow;
            };
            Assert.True(scenario.RunHolder());
            kernel.CheckAllAfterRelease();
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Faults_without_a_pause_leave_no_more_than_a_batch_undropped_and_each_page_is_counted_once(bool inOrder)
    {
        const int pages = 400, batch = 64;
        using Scenario scenario = new(seed: 29, pages, actions: 0);
        FakeKernel kernel = scenario.Kernel;
        scenario.Control->Lazy = 1;
        scenario.MakeAllPresent();
        ulong[] order = [.. scenario.Target.Pages.Keys];
        if (!inOrder)
        {
            for (int i = pages - 1; i > 0; i--)
            {
                int other = kernel.Dice.Below(i + 1);
                (order[i], order[other]) = (order[other], order[i]);
            }
        }

        int next = 0, most = 0;
        kernel.OnTouched = (target, thread) =>
        {
            most = Math.Max(most, target.Pages.Values.Index().Count(page => page.Item.State == PageState.Present && kernel.Source[page.Index].IsPopulated));
            if (++next < pages) kernel.Touch(target, thread, order[next], write: false);
        };
        bool begun = false;
        kernel.OnIdle = () =>
        {
            if (!begun) kernel.Touch(scenario.Target, scenario.Target.Threads[0], order[0], write: false);
            begun = true;
        };
        Assert.True(scenario.RunHolder());
        Assert.Equal(pages, next);
        Assert.InRange(most, 2, batch);
        Assert.Equal(ControlState.Complete, scenario.Control->State);
        Assert.Equal(scenario.Control->BytesTotal, scenario.Control->BytesDone);
        Assert.Equal(0UL, scenario.Control->Errors);
        Assert.All(kernel.Source, page => Assert.False(page.IsPopulated));
        if (inOrder) Assert.InRange(scenario.Control->Faults, 2UL, pages / 10UL);
    }

    [Fact]
    public void A_region_that_grows_in_place_is_zero_where_it_grew()
    {
        using Scenario scenario = new(seed: 19, pages: 10, actions: 0);
        FakeKernel kernel = scenario.Kernel;
        scenario.Control->Lazy = 1;
        ulong end = scenario.Target.Pages.Keys.Last() + FakeKernel.PageSize;
        int vma = scenario.Target.Pages.Values.Last().Vma;
        for (ulong i = 0; i < 4; i++) scenario.Target.Pages[end + i * FakeKernel.PageSize] = new TargetPage { Vma = vma };
        int idle = 0;
        kernel.OnIdle = () =>
        {
            if (idle++ == 0) kernel.Touch(scenario.Target, scenario.Target.Threads[0], end + 2 * FakeKernel.PageSize, write: true);
            scenario.Control->Command = ControlCommand.FinishNow;
        };
        Assert.True(scenario.RunHolder());
        Assert.Equal(0UL, scenario.Control->PoisonedPages);
        Assert.Equal(PageState.Present, scenario.Target.Pages[end + 2 * FakeKernel.PageSize].State);
    }

    [Fact]
    public void Without_UFFDIO_POISON_a_page_that_cannot_be_read_keeps_its_reader_waiting() => Gen.ULong.Sample(seed =>
    {
        using Scenario scenario = new(seed, pages: 8, actions: 0);
        FakeKernel kernel = scenario.Kernel;
        kernel.HasPoison = false;
        kernel.Source[3] = new SourcePage { State = PageState.Present, Unreadable = true, Content = 4 };
        int idle = 0;
        kernel.OnIdle = () =>
        {
            if (idle == 0) kernel.Touch(scenario.Target, scenario.Target.Threads[0], scenario.Target.Pages.Keys.ElementAt(3), write: false);
            if (++idle == 50) kernel.KillAfter = 0;
        };
        Assert.False(scenario.RunHolder());
        Assert.Equal(ControlState.Serving, scenario.Control->State);
        Assert.NotNull(scenario.Target.Threads[0].Fault);
        Assert.Equal(1u, scenario.Control->Withheld);
    }, iter: 300);
}
