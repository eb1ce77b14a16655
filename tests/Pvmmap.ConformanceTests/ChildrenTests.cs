using System.Globalization;
using System.Runtime.InteropServices;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>
/// Children of the target, and of either during the call. programs/children.c: a traced thread's SIGCHLD is not dropped, as an untraced one's is where nobody asks for it, but wakes any thread of the
/// process. None may see an EINTR of it.
/// </summary>
public sealed class ChildrenTests(Theatre theatre) : Scene(theatre)
{
    private const int Calls = 200;
    private const ulong Length = 4 * MiB;

    [Fact]
    public void As_source() => Play((program, range, length) =>
    {
        MmapResult result = Call(program, Own, range, length);
        Own.Unmap(result.Address, length);
        Own.Map(length, Prot.None, MapFlags.Fixed | MapFlags.NoReserve, result.Address);
    });

    [Fact]
    public void As_target()
    {
        ulong own = MapFilled(Own, MiB, 15), place = 0;
        Play((program, _, length) => place = Call(Own, program, own, length, place, place == 0 ? MmapFlags.None : MmapFlags.Fixed).Address);
    }

    [Fact]
    public void More_of_them_one_after_another_than_there_is_room_for_at_a_time()
    {
        (Puppet target, MmapResult result) = BeginLazily(NewPuppet());
        for (ulong i = 0; i < 100; i++)
        {
            // without a pause in which they would be looked for
            Puppet child = ForkOf(target);
            child.AssertContent(result.Address + i * Page, Page, 1, i);
            child.Kill();
            target.WaitFor(child.Pid);
        }
        target.AssertContent(result.Address, Length, 1);
        AssertCompletes(result);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_lazy_fill_ends_when_all_who_are_left_have_touched_everything(bool childStays)
    {
        (Puppet target, MmapResult result) = BeginLazily(NewPuppet());
        target.Touch(result.Address, MiB);
        Puppet child = ForkOf(target);
        child.AssertContent(result.Address, 2 * MiB, 1);
        target.AssertContent(result.Address, Length, 1);
        Assert.False(result.Duplication.Wait(TimeSpan.FromSeconds(1)), "the child has not touched everything");
        Assert.InRange(result.Duplication.BytesToGo, 1UL, 2 * MiB);
        if (childStays)
            child.AssertContent(result.Address, Length, 1);
        else
        {
            child.Kill();
            target.WaitFor(child.Pid);
        }
        AssertCompletes(result);
        target.AssertContent(result.Address, Length, 1);
    }

    [Fact]
    public void More_of_them_than_the_source_may_have_descriptors()
    {
        Puppet source = NewPuppet();
        source.Limit(Rlimit.Files, 24);
        (Puppet target, MmapResult result) = BeginLazily(source);
        Puppet[] children = [.. Enumerable.Range(0, 40).Select(_ => ForkOf(target))];
        foreach (Puppet child in children) child.AssertContent(result.Address, Length, 1);
        target.AssertContent(result.Address, Length, 1);
        AssertCompletes(result);
    }

    [Fact]
    public async Task More_of_them_than_anybody_may_have_descriptors_wait_for_others_to_end()
    {
        Puppet source = NewPuppet();
        ulong[] limit = [24, 24];
        source.Write(source.Scratch, MemoryMarshal.AsBytes(limit.AsSpan()));
        source.Must(source.Syscall(Sys.prlimit64, 0, (long)Rlimit.Files, (long)source.Scratch, 0), "prlimit64");
        (Puppet target, MmapResult result) = BeginLazily(source);
        Queue<Puppet> children = [];
        int waited = 0;
        while (children.Count < 40 && waited < 3)
        {
            Task<Puppet> next = Task.Run(() => ForkOf(target), TestContext.Current.CancellationToken);
            if (await Task.WhenAny(next, Task.Delay(2000, TestContext.Current.CancellationToken)) != next)
            {
                waited++;
                TimeSpan before = ProcessorTime(result.Duplication.HolderPid);
                await Task.Delay(1000, TestContext.Current.CancellationToken);
                Assert.InRange((ProcessorTime(result.Duplication.HolderPid) - before).TotalSeconds, 0, 0.3);
                children.Dequeue().Kill();
            }
            Puppet child = await next.WaitAsync(Patience.Of(20), TestContext.Current.CancellationToken);
            child.AssertContent(result.Address, MiB, 1);
            children.Enqueue(child);
        }
        target.AssertContent(result.Address, Length, 1);
        result.Duplication.Finish();
        AssertCompletes(result);
    }

    private static TimeSpan ProcessorTime(int pid)
    {
        using var process = System.Diagnostics.Process.GetProcessById(pid);
        return process.TotalProcessorTime;
    }

    private (Puppet Target, MmapResult Result) BeginLazily(Puppet source)
    {
        Puppet target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Lazy);
        source.Kill();
        return (target, result);
    }

    private void Play(Action<Actor, ulong, ulong> call)
    {
        Actor program = NewActor(Theatre.Program("children"));
        string[] range = program.Answer();
        ulong at = ulong.Parse(range[0], CultureInfo.InvariantCulture), length = ulong.Parse(range[1], CultureInfo.InvariantCulture);
        for (int round = 0; round < Calls; round++) call(program, at, length);
        string[] report = program.Ask($"stop");
        Assert.True(report is [not "0", "0", "0"], $"after {Calls} calls (rounds, EINTR, wrong): {string.Join(' ', report)}");
        Assert.Equal(0, Theatre.Nursery.WaitForEnd(program.Pid));
    }
}
