using System.Globalization;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>What a call costs in memory and swap.</summary>
public sealed class MemoryTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Data = 256 * MiB;

    private Cgroup _cgroup = null!;

    [Fact]
    public void Pushed_and_released_the_two_never_hold_more_than_a_tenth_above_the_data()
    {
        Puppet caller = NewPuppet().LoadLibrary(), target = NewPuppet();
        ulong small = caller.MapFilled(MiB, 9);
        caller.Call(-target.Pid, small, MiB, 0, MmapFlags.Populate); // the library's runtime is not what is measured
        EnterCgroup(caller.Pid, target.Pid);
        ulong idle = Usage(), at = caller.MapFilled(Data, 1), place = target.Map(Data);
        ResetPeak();
        Assert.Equal(((long)place, Errno.None), caller.CallAndRelease(-target.Pid, at, Data, place, MmapFlags.Fixed));
        target.AssertContent(place, Data, 1);
        WaitForFills(target);
        AssertPeak(idle);
        target.AssertContent(place, Data, 1);
    }

    [Fact]
    public void Between_two_others_the_released_source_is_freed_as_the_fill_goes()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        EnterCgroup(source.Pid, target.Pid);
        ulong idle = Usage(), at = source.MapFilled(Data, 1), place = target.Map(Data);
        ResetPeak();
        // lazy until the source has released it: what is filled before that is there twice
        MmapResult result = Call(source, target, at, Data, place, MmapFlags.Fixed | MmapFlags.Lazy);
        source.Unmap(at, Data);
        result.Duplication.Finish();
        AssertCompletes(result);
        AssertPeak(idle);
        target.AssertContent(place, Data, 1);
    }

    [Fact]
    public void With_huge_pages_in_the_source_too()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        EnterCgroup(source.Pid, target.Pid);
        ulong idle = Usage(), at = source.MapHugeAligned(Data, Madv.HugePage), place = target.Map(Data);
        source.Fill(at, Data, 1);
        ResetPeak();
        // lazy until the source has released it: what is filled before that is there twice
        MmapResult result = Call(source, target, at, Data, place, MmapFlags.Fixed | MmapFlags.Lazy);
        source.Unmap(at, Data);
        result.Duplication.Finish();
        AssertCompletes(result);
        AssertPeak(idle);
        target.AssertContent(place, Data, 1);
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void Swapped_out_pages_are_not_read_in_by_the_call(Way way)
    {
        Borrow(new ZramSwap(512 * MiB));
        const ulong Length = 64 * MiB;
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong at = source.MapHugeAligned(Length, Madv.NoHugePage);
        if (source is OwnProcess) UnmapAtEnd(at, Length);
        source.Fill(at, Length, 1);
        source.Must(source.Advise(at, Length, Madv.PageOut), "madvise");
        ulong swapped = Smaps.Swapped(source.Pid, at, Length);
        Assert.True(swapped > Length * 9 / 10, $"only {swapped} bytes could be swapped out");
        ulong before = SwappedIn();
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Lazy);
        ulong after = SwappedIn();
        // other processes of the machine have nothing there: this swap is new
        Assert.Equal(before, after);
        Assert.Equal(swapped, Smaps.Swapped(source.Pid, at, Length));
        result.Duplication.Finish();
        AssertCompletes(result);
        target.AssertContent(result.Address, Length, 1);
        source.AssertContent(at, Length, 1);
    }

    [Fact]
    public void The_target_can_be_swapped_out_during_the_fill_and_after()
    {
        Borrow(new ZramSwap(512 * MiB));
        const ulong Length = 32 * MiB;
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Lazy);
        target.AssertContent(result.Address, Length / 2, 1);
        target.Must(target.Advise(result.Address, Length, Madv.PageOut), "madvise");
        target.AssertContent(result.Address, Length, 1);
        result.Duplication.Finish();
        AssertCompletes(result);
        target.Must(target.Advise(result.Address, Length, Madv.PageOut), "madvise");
        Assert.True(Smaps.Swapped(target.Pid, result.Address, Length) > Length / 2);
        target.AssertContent(result.Address, Length, 1);
    }

    private void EnterCgroup(params int[] pids)
    {
        _cgroup = Borrow(Cgroup.Memory());
        _cgroup.Enter(pids);
    }

    private ulong Usage() => _cgroup["memory.usage_in_bytes"];

    private void ResetPeak() => _cgroup["memory.max_usage_in_bytes"] = 0;

    private void AssertPeak(ulong idle)
    {
        ulong peak = _cgroup["memory.max_usage_in_bytes"] - idle;
        Assert.True(peak <= Data + Data / 10, $"{Data / MiB} MiB of data, at most {peak / (double)MiB:F1} MiB at a time");
        Assert.True(peak >= Data, $"the peak of {peak} bytes does not even hold the data: nothing was measured");
    }

    private static ulong SwappedIn() => ulong.Parse(
        File.ReadLines("/proc/vmstat").First(line => line.StartsWith("pswpin ", StringComparison.Ordinal))[7..], CultureInfo.InvariantCulture);
}
