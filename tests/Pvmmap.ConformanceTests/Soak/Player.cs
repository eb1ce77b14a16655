using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests.Soak;

/// <summary>A puppet and what its memory must hold.</summary>
internal sealed class Player(string name, Puppet puppet, bool mayCall, MemoryModel memory)
{
    private readonly ProcessRecord _before = mayCall ? ProcessRecord.TakeOfCaller(puppet.Pid) : ProcessRecord.TakeAtRest(puppet.Pid);

    public Puppet Puppet => puppet;

    /// <summary>Has the C library loaded.</summary>
    public bool MayCall => mayCall;

    public MemoryModel Memory => memory;

    /// <summary>Reads every page of a range.</summary>
    public void Check(PageRange range)
    {
        foreach (Extent extent in memory.Within(range))
        {
            (ulong at, ulong length) = (extent.Range.Start, extent.Range.Length);
            // a step beyond the end: nothing but page 0 has the pattern, the others are zeros
            Census seen = extent.Seed == 0 ? puppet.Examine(at, length, 0, 1, 1UL << 40) : puppet.Examine(at, length, extent.Seed, extent.FirstPage);
            ulong right = extent.Protection == Prot.None ? seen.SegV : seen.Good;
            Assert.True(right == length / PageRange.PageSize, $"{this}: {extent} holds {seen}");
        }
    }

    public void CheckEverything()
    {
        foreach (PageRange island in memory.Islands) Check(island);
    }

    /// <summary>Makes everything readable, looks at it, unmaps it: then the process must be as it was when it came.</summary>
    public void End()
    {
        foreach (Extent extent in memory.All.Where(extent => extent.Protection == Prot.None).ToArray())
        {
            puppet.Protect(extent.Range.Start, extent.Range.Length, Prot.Read);
            memory.Set(extent with { Protection = Prot.Read });
        }
        CheckEverything();
        foreach (PageRange island in memory.Islands) puppet.Unmap(island.Start, island.Length);
        _before.AssertUnchanged();
    }

    public override string ToString() => name;
}
