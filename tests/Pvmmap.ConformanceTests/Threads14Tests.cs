using System.Globalization;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>programs/threads14.c, which knows nothing of us: no system call of its fails with EINTR, no thread and no child is lost.</summary>
public sealed class Threads14Tests(Theatre theatre) : Scene(theatre)
{
    private const int Calls = 40;

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
        ulong own = MapFilled(Own, 16 * MiB, 14);
        Play((program, range, length, round) => Call(Own, program, own, length, range, round % 2 == 0
            ? MmapFlags.Fixed
            : MmapFlags.Fixed | MmapFlags.Populate));
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
        Actor program = NewActor(Theatre.Program("threads14"));
        string[] range = program.Answer();
        ulong at = ulong.Parse(range[0], CultureInfo.InvariantCulture), length = ulong.Parse(range[1], CultureInfo.InvariantCulture);
        int threads = Directory.EnumerateDirectories($"/proc/{program.Pid}/task").Count();
        for (int round = 0; round < Calls; round++) call(program, at, length, round);
        Eventually.Holds(() => Directory.EnumerateDirectories($"/proc/{program.Pid}/task").Count() >= 15, "no thread is lost");
        Assert.InRange(threads, 14, 16);
        string[] report = program.Ask($"stop");
        Assert.Equal(15, report.Length);
        foreach (string activity in report)
        {
            string[] fields = activity.Split(':');
            Assert.True(fields[1] != "0", $"{fields[0]} never got through a round");
            string seen = $"{fields[0]}: {fields[1]} rounds, {fields[2]} EINTR, {fields[3]} wrong (last errno {fields[4]})";
            Assert.True(fields[2] == "0" && fields[3] == "0", seen);
        }
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
