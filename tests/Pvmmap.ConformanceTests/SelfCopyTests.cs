using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>pid may be the caller's own; overlapping source and destination is EINVAL.</summary>
public sealed class SelfCopyTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 16 * MiB;

    public static TheoryData<int, MmapFlags> SignsAndFills => new MatrixTheoryData<int, MmapFlags>(
        [1, -1], [MmapFlags.None, MmapFlags.Lazy, MmapFlags.Populate]);

    [Theory]
    [MemberData(nameof(SignsAndFills))]
    public void The_callers_own_pid(int sign, MmapFlags fill)
    {
        ulong at = MapFilled(Own, Length, 1);
        MmapResult result = ProcessVm.Mmap(sign * Environment.ProcessId, at, Length, flags: fill);
        Remember(result, Own);
        Own.Fill(at, Length / 2, 2);
        Own.AssertContent(result.Address, Length, 1);
        Own.Fill(result.Address, MiB, 3);
        Own.AssertContent(at, Length / 2, 2);
        Own.AssertContent(at + Length / 2, Length / 2, 1, Length / 2 / Page);
        result.Duplication.Finish();
        AssertCompletes(result);
    }

    [Fact]
    public async Task From_four_threads_at_once_onto_places_of_their_own()
    {
        // each call forks this process while the others' fills in it are under way, and end
        ulong[] ats = [.. Enumerable.Range(0, 4).Select(i => MapFilled(Own, MiB, (ulong)i + 1))];
        ulong[] places = [.. Enumerable.Range(0, 4).Select(_ => MapFilled(Own, MiB, 9))];
        for (int round = 0; round < 10; round++)
        {
            MmapResult[] results = await Task.WhenAll(Enumerable.Range(0, 4).Select(i => Task.Factory.StartNew(
                () => ProcessVm.Mmap(Environment.ProcessId, ats[i], MiB, places[i], MmapFlags.Fixed),
                TestContext.Current.CancellationToken, TaskCreationOptions.LongRunning, TaskScheduler.Default)));
            for (int i = 0; i < 4; i++) Own.AssertContent(places[i], MiB, (ulong)i + 1);
            foreach (MmapResult result in results) AssertCompletes(result);
        }
    }

    [Theory]
    [InlineData(MmapFlags.None)]
    [InlineData(MmapFlags.Lazy)]
    public void Within_another_process(MmapFlags fill)
    {
        Puppet puppet = NewPuppet();
        ulong at = puppet.MapFilled(Length, 1), place = puppet.MapFilled(Length, 2);
        MmapResult result = Call(puppet, puppet, at, Length, place, MmapFlags.Fixed | fill);
        puppet.Fill(at, Length, 3);
        puppet.AssertContent(place, Length, 1);
        result.Duplication.Finish();
        AssertCompletes(result);
    }

    [Fact]
    public void Right_beside_each_other_is_no_overlap()
    {
        Puppet puppet = NewPuppet();
        ulong both = puppet.Map(2 * MiB);
        puppet.Fill(both, MiB, 1);
        MmapResult result = Call(puppet, puppet, both, MiB, both + MiB, MmapFlags.Fixed);
        puppet.AssertContent(both, MiB, 1);
        puppet.AssertContent(both + MiB, MiB, 1);
        AssertCompletes(result);
    }

    [Theory]
    [InlineData(0L)]
    [InlineData(4096L)]
    [InlineData(-4096L)]
    [InlineData((1 << 20) - 4096L)]
    [InlineData(-(1 << 20) + 4096L)]
    public void Overlap_is_EINVAL(long offset)
    {
        Puppet puppet = NewPuppet();
        ulong middle = puppet.MapFilled(3 * MiB, 1) + MiB, own = MapFilled(Own, 3 * MiB, 1) + MiB;
        ProcessRecord before = ProcessRecord.TakeAtRest(puppet.Pid);
        Refused(Errno.EINVAL, puppet, puppet, middle, MiB, middle + (ulong)offset, MmapFlags.Fixed);
        before.AssertUnchanged();
        puppet.AssertContent(middle - MiB, 3 * MiB, 1);
        foreach (int sign in (int[])[1, -1])
        {
            var exception = Assert.Throws<PvmmapException>(
                () => ProcessVm.Mmap(sign * Environment.ProcessId, own, MiB, own + (ulong)offset, MmapFlags.Fixed));
            Assert.Equal(Errno.EINVAL, exception.Errno);
        }
        Own.AssertContent(own - MiB, 3 * MiB, 1);
    }

    [Fact]
    [Trait(CFunctionWays.Trait, CFunctionWays.Value)]
    public void Through_the_C_function()
    {
        Puppet caller = NewPuppet().LoadLibrary();
        ulong at = caller.MapFilled(Length, 1), place = caller.MapFilled(Length, 2);
        foreach (int sign in (int[])[1, -1])
        {
            Assert.Equal(((long)place, Errno.None), caller.Call(sign * caller.Pid, at, Length, place, MmapFlags.Fixed));
            caller.AssertContent(place, Length, 1);
            Assert.Equal((-1L, Errno.EINVAL), caller.Call(sign * caller.Pid, at, Length, at + MiB, MmapFlags.Fixed));
            caller.Fill(place, Length, 2);
        }
    }
}
