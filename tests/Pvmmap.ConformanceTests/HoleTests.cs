using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>Never-touched pages stay untouched on both sides.</summary>
public class HoleTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 16 * MiB;

    public static TheoryData<Way, ulong> WaysAndSteps => new MatrixTheoryData<Way, ulong>(Enum.GetValues<Way>(), [2, 3, 16, 1000]);

    [Theory]
    [MemberData(nameof(WaysAndSteps))]
    public void Only_pages_that_had_content_become_resident(Way way, ulong step)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        // the neighbourhood must not be huge pages, or one touch populates 512
        ulong at = source.MapHugeAligned(Length, Madv.NoHugePage);
        if (source is OwnProcess) UnmapAtEnd(at, Length);
        source.Fill(at, Length, 1, 0, step);
        ulong populated = (Length / Page + step - 1) / step * Page;
        Assert.Equal(populated, Smaps.Resident(source.Pid, at, Length));
        MmapResult result = Call(source, target, at, Length);
        AssertCompletes(result);
        if (result.Duplication.HolderPid != 0) Assert.Equal(populated, result.Duplication.BytesTotal);
        Assert.Equal(populated, Smaps.Resident(target.Pid, result.Address, Length));
        Assert.Equal(populated, Smaps.Resident(source.Pid, at, Length));
        target.AssertContent(result.Address, Length, 1, 0, step);
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void A_range_without_any_content_costs_nothing_and_reads_as_zeros(Way way)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong at = Map(source, 1024 * MiB, flags: MapFlags.NoReserve);
        MmapResult result = Call(source, target, at, 1024 * MiB);
        AssertCompletes(result);
        Assert.Equal(0UL, Smaps.Resident(target.Pid, result.Address, result.Length));
        Assert.Equal(0UL, Smaps.Resident(source.Pid, at, result.Length));
        Assert.Equal(new byte[64], target.Read(result.Address + 12345, 64));
        target.Fill(result.Address + MiB, MiB, 2);
        target.AssertContent(result.Address + MiB, MiB, 2);
        Assert.Equal(new byte[64], source.Read(at + MiB, 64));
    }

    [Fact]
    public void A_hole_reads_as_zeros_during_the_fill_too()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.Map(Length);
        source.Fill(at, Length, 1, 0, 2);
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Lazy);
        target.AssertContent(result.Address, Length, 1, 0, 2);
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void Soon_after_the_call_it_is_known_how_much_there_is_to_deliver(Way way)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong at = Map(source, Length);
        source.Fill(at, Length, 1, 0, 2);
        Duplication fill = Call(source, target, at, Length, flags: MmapFlags.Lazy).Duplication;
        Eventually.Holds(() => (fill.BytesTotal, fill.BytesToGo) == (Length / 2, Length / 2), $"they are counted: {Describe(fill)}");
        fill.Finish();
        AssertEnds(fill, DuplicationState.Complete);
        Assert.Equal((Length / 2, 0UL), (fill.BytesTotal, fill.BytesToGo));
    }

    [Fact]
    public void Pages_that_the_source_dropped_or_only_read_are_zeros()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(4 * MiB, 1);
        source.Must(source.Advise(at + MiB, MiB, Madv.DontNeed), "madvise");
        source.Must(source.Advise(at + 2 * MiB, MiB, Madv.DontNeed), "madvise");
        source.Touch(at + 2 * MiB, MiB); // the zero page
        MmapResult result = Call(source, target, at, 4 * MiB);
        target.AssertContent(result.Address, MiB, 1);
        Assert.Equal(512UL, target.Examine(result.Address + MiB, 2 * MiB, 1, MiB / Page, step: 1).Zero);
        target.AssertContent(result.Address + 3 * MiB, MiB, 1, 3 * MiB / Page);
        AssertCompletes(result);
        Assert.Equal(512UL, target.Examine(result.Address + MiB, 2 * MiB, 1, MiB / Page, step: 1).Zero);
    }

    [Fact]
    public void Nothing_is_copied_in_the_call_itself()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(64 * MiB, 1);
        MmapResult result = Call(source, target, at, 64 * MiB, flags: MmapFlags.Lazy);
        Assert.Equal(0UL, Smaps.Resident(target.Pid, result.Address, result.Length));
        Assert.Equal(64 * MiB, result.Duplication.BytesToGo);
        target.Touch(result.Address, Page);
        ulong resident = Smaps.Resident(target.Pid, result.Address, result.Length);
        Assert.InRange(resident, Page, 2 * MiB); // the page and some fault-around, not the range
    }

    [Fact]
    public void Populate_returns_when_every_page_is_in_place()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(64 * MiB, 1);
        MmapResult result = Call(source, target, at, 64 * MiB, flags: MmapFlags.Populate);
        Assert.Equal(64 * MiB, Smaps.Resident(target.Pid, result.Address, result.Length));
        Assert.Equal(0UL, result.Duplication.BytesToGo);
        AssertCompletes(result, seconds: 1);
    }
}
