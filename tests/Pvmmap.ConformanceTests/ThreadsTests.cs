using System.Globalization;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>programs/threads.c, which knows nothing of us: no system call of its fails with EINTR, no thread and no child is lost.</summary>
public sealed class ThreadsTests(Theatre theatre) : Scene(theatre)
{
    private const int Calls = 40, Threads = 18;

    [Fact]
    public void As_source() => Play((program, range, length, round) =>
    {
        MmapResult result = Call(program, Own, range, length, flags: round % 2 == 0 ? MmapFlags.None : MmapFlags.Lazy);
        AssertFirstWords(result.Address, length);
        Own.Unmap(result.Address, length);
        Own.Map(length, Prot.None, MapFlags.Fixed | MapFlags.NoReserve, result.Address);
    });

    [Fact]
    public void As_target()
    {
        ulong own = MapFilled(Own, 16 * MiB, 14), place = 0;
        Play((program, _, length, round) =>
        {
            MmapFlags fill = round % 2 == 0 ? MmapFlags.None : MmapFlags.Populate;
            place = Call(Own, program, own, length, place, place == 0 ? fill : fill | MmapFlags.Fixed).Address;
        });
    }

    [Fact]
    public void As_both()
    {
        ulong place = 0;
        Play((program, range, length, round) =>
        {
            MmapResult result = Call(program, program, range, length, place, place == 0 ? MmapFlags.None : MmapFlags.Fixed);
            place = result.Address;
        });
    }

    private void Play(Action<Actor, ulong, ulong, int> call)
    {
        Actor program = NewActor(Theatre.Program("threads"));
        string[] range = program.Answer();
        ulong at = ulong.Parse(range[0], CultureInfo.InvariantCulture), length = ulong.Parse(range[1], CultureInfo.InvariantCulture);
        int threads = Directory.EnumerateDirectories($"/proc/{program.Pid}/task").Count();
        for (int round = 0; round < Calls; round++) call(program, at, length, round);
        Eventually.Holds(() => Directory.EnumerateDirectories($"/proc/{program.Pid}/task").Count() >= Threads + 1, "no thread is lost");
        // One of them starts another now and then.
        Assert.InRange(threads, Threads, Threads + 2);
        string[] report = program.Ask($"stop");
        Assert.Equal(Threads + 1, report.Length);
        string[] trouble = [.. report.Where(activity => activity.Split(':') is not [_, not "0", "0", "0", _])];
        Assert.True(trouble.Length == 0, $"after {Calls} calls (name:rounds:eintr:wrong:errno): {string.Join(' ', trouble)}");
        Assert.Equal(0, Theatre.Nursery.WaitForEnd(program.Pid));
    }

    /// <summary>The program writes into each page's fourth word; the first stays the pattern's.</summary>
    private static unsafe void AssertFirstWords(ulong at, ulong length)
    {
        for (ulong page = 0; page < length / Page; page++)
        {
            ulong word = *(ulong*)(at + page * Page);
            Assert.True(word == Pattern.FirstWord(14, page), $"page {page} at 0x{at + page * Page:x} holds {word:x}");
        }
    }
}
