using CsCheck;
using Pvmmap.ConformanceTests.Soak;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>
/// Random calls among six processes, for 20 seconds, and for 10 minutes with ./test --full. A failure names the seed that makes the same play
/// again: set it as the environment's CsCheck_Seed.
/// </summary>
public sealed class SoakTests(Theatre theatre) : Scene(theatre)
{
    private static readonly Gen<PlayStep[]> s_plays = PlayStep.Gen.Array[1, 150];

    private static int Seconds => Environment.GetEnvironmentVariable("PVMMAP_TEST_FULL") == "1" ? 600 : 20;

    [Fact]
    public void Random_calls_among_six_processes()
    {
        PlayOne([]); // the runtime opens what it needs
        int descriptors = ProcessStatus.Descriptors(Own.Pid), mappings = ProcessStatus.Mappings(Own.Pid);
        s_plays.Sample(PlayOne, time: Seconds, threads: 1);
        Eventually.Holds(
            () =>
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
                // the heap breathes
                return ProcessStatus.Descriptors(Own.Pid) <= descriptors + 10 && ProcessStatus.Mappings(Own.Pid) <= mappings + 60;
            },
            $"from {descriptors} descriptors and {mappings} mappings to no more than that");
    }

    private void PlayOne(PlayStep[] steps)
    {
        using var play = new Play(Theatre, load => load ? NewPuppet().LoadLibrary() : NewPuppet(), ForkOf);
        play.Run(steps);
    }
}
