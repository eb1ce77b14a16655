using System.Globalization;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>
/// programs/children.c: a traced thread's SIGCHLD is not dropped, as an untraced one's is where nobody asks for it, but wakes any thread of the
/// process. None may see an EINTR of it.
/// </summary>
public sealed class ChildrenTests(Theatre theatre) : Scene(theatre)
{
    private const int Calls = 200;

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
