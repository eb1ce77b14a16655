using Pvmmap.Holder;
using Pvmmap.Holder.Freestanding;

namespace Pvmmap.Tests.Holder;

/// <summary>A holder with a random range, and targets that will do random things.</summary>
internal sealed unsafe class Scenario : IDisposable
{
    public Scenario(ulong seed, int pages, int actions)
    {
        Kernel = new FakeKernel(seed, pages) { ActionsLeft = actions };
        Dice dice = Kernel.Dice;
        int populated = dice.Below(101);
        bool readable = dice.Chance(80);
        for (int i = 0; i < pages; i++)
        {
            ref SourcePage page = ref Kernel.Source[i];
            page.Content = i + 1;
            page.State = dice.Chance(populated) ? (dice.Chance(75) ? PageState.Present : PageState.Swapped)
                : dice.Chance(20) ? PageState.ZeroPage : PageState.Missing;
            page.Unreadable = !readable && page.IsPopulated && dice.Chance(10);
        }
        for (int i = 0; i + 512 <= pages; i += 512)
        {
            if (dice.Chance(50)) MakeHuge(i);
        }
        Kernel.HasPagemapScan = dice.Chance(85);
        Kernel.Control->BatchBytes = dice.Chance(50) ? 0 : (ulong)(1 + dice.Below(9)) * FakeKernel.PageSize;
        Kernel.Activity = 5 + dice.Below(60);
        MayHaveWorker = dice.Chance(70);
        Target = Kernel.Place();
    }

    /// <summary>A move: the same, and a source that goes on, in one VMA or several, with gaps or without.</summary>
    public static Scenario Move(ulong seed, int pages, int actions, int? pieces = null)
    {
        Scenario scenario = new(seed, pages, actions);
        FakeKernel kernel = scenario.Kernel;
        Dice dice = kernel.Dice;
        int borders = dice.Chance(50) ? 0 : dice.Below(30), gaps = dice.Chance(70) ? 0 : dice.Below(15);
        TargetPage[] targetPages = [.. scenario.Target.Pages.Values];
        for (int i = 0, vma = 1; i < pages; i++)
        {
            if (dice.Chance(borders)) vma++;
            bool gap = dice.Chance(gaps);
            kernel.Source[i].Vma = gap ? 0 : vma;
            if (!gap) continue;
            kernel.Source[i].State = PageState.Missing;
            targetPages[i].Expected = 0;
        }
        kernel.MovesSeveralVmas = dice.Chance(60);
        kernel.HasStranger = dice.Chance(20);
        kernel.Forks = 4;
        scenario.Control->Lazy = dice.Chance(30) ? 1u : 0;
        kernel.PrepareMove(pieces ?? (dice.Chance(40) ? 0 : 1 + dice.Below(3)));
        return scenario;
    }

    public FakeKernel Kernel { get; }

    public FakeTarget Target { get; }

    /// <summary>The tables have room for few entries. (Then a region must not grow into what an entry could not be cut from.)</summary>
    public bool Cramped { get; init; }

    /// <summary>Address spaces that a cramped table has room for.</summary>
    public uint ContextLimit { get; init; } = 3;

    /// <summary>The holder may have a second thread. By chance, for what it does to a page is all the same to a target.</summary>
    public bool MayHaveWorker { get; init; }

    /// <summary>What is populated is not known yet, and is counted two pages at a time.</summary>
    public bool CountsLater { get; init; }

    /// <summary>Room for segments in a cramped table.</summary>
    public uint SegmentRoom { get; init; } = 10;

    /// <summary>What else was inherited from the source is given up when the call is over.</summary>
    public bool PostponesInheritance { get; init; }

    public ControlPage* Control => Kernel.Control;

    public void Dispose() => Kernel.Dispose();

    /// <summary>Each page of the range has a content, is in memory and can be read.</summary>
    public void MakeAllPresent()
    {
        for (int i = 0; i < Kernel.Source.Length; i++) Kernel.Source[i] = new SourcePage { State = PageState.Present, Content = i + 1 };
        foreach ((int i, TargetPage page) in Target.Pages.Values.Index()) (page.Expected, page.MayBePoisoned) = (i + 1, false);
        Control->BytesTotal = (ulong)Kernel.Source.Length * FakeKernel.PageSize;
    }

    /// <summary>Before the region is registered.</summary>
    public void FillHugePages()
    {
        Service service;
        Service.Initialize(&service, FakeKernel.EntryPoint, Control);
        if (MayHaveWorker) Kernel.AllowWorker(&service);
        HugePageFill.Run(&service, FakeKernel.TargetMemory);
        FillWorker.End(&service);
    }

    /// <summary>Runs the holder to its end; false when it was killed before.</summary>
    public bool RunHolder()
    {
        Service service;
        Service.Initialize(&service, FakeKernel.EntryPoint, Control);
        MakeCramped(&service);
        if (MayHaveWorker) Kernel.AllowWorker(&service);
        if (CountsLater)
        {
            service.CountSlice = 2 * FakeKernel.PageSize;
            Loop.CountLater(&service);
        }
        HolderBootArguments arguments = new()
        {
            SourceStart = Control->SourceStart, SourceLength = Control->SourceLength, AddressSpaceEnd = Control->AddressSpaceEnd, Postpones = 1,
        };
        if (PostponesInheritance) service.Postponed = &arguments;
        Control->State = Kernel.IsMove ? ControlState.Prepared : ControlState.Serving;
        try
        {
            Loop.Run(&service);
        }
        catch (ProcessExit)
        {
            return true;
        }
        catch (ProcessKilled)
        {
            return false;
        }
        throw new InvalidOperationException("the loop returned");
    }

    /// <summary>Runs the guardian of a holder that is gone.</summary>
    public void RunGuardian()
    {
        Kernel.KillAfter = Kernel.KillAtStore = int.MaxValue;
        Kernel.IsHolderDead = true;
        if (Kernel.IsMove)
        {
            RunGuardianInSource();
            return;
        }
        Kernel.SourceIsGone = true;
        Service service;
        Service.Initialize(&service, FakeKernel.EntryPoint, Control);
        MakeCramped(&service);
        try
        {
            Guardian.Run(&service);
        }
        catch (ProcessExit)
        {
        }
    }

    private void RunGuardianInSource()
    {
        HolderBootArguments arguments = new() { Syscall = (ulong)FakeKernel.EntryPoint, Control = (ulong)Control };
        try
        {
            Guardian.RunInSource(&arguments);
        }
        catch (ProcessExit)
        {
            return;
        }
        throw new InvalidOperationException("the guardian returned");
    }

    private void MakeCramped(Service* service)
    {
        if (!Cramped) return;
        Kernel.SourceMayBeLost = true;
        Kernel.MayGrow = false;
        service->SegmentLimit = SegmentTable.Reserve + SegmentRoom;
        service->ContextLimit = ContextLimit;
    }

    private void MakeHuge(int first)
    {
        for (int i = first; i < first + 512; i++)
        {
            Kernel.Source[i].State = PageState.Present;
            Kernel.Source[i].Huge = true;
            Kernel.Source[i].Unreadable = false;
        }
    }
}
