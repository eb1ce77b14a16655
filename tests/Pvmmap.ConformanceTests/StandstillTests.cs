using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>A process that starts threads all the time, each of which has ended before one has looked at it: while the process stands still none of them runs.</summary>
public sealed class StandstillTests(Theatre theatre) : Scene(theatre)
{
    private const int Calls = 100;
    private const ulong Pages = 256;

    [Fact]
    public void No_thread_runs_on_that_was_born_meanwhile()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Pages * Page, 1);
        source.StartChains(24);
        for (int call = 0; call < Calls; call++)
        {
            using SteppedCaller caller = new(Theatre, new SteppedCall(source.Pid, target.Pid, at, Pages, $"{CallStep.SourceStopped}"));
            caller.Say("call");
            Assert.Equal("at", caller.Hear("at", "done")?[0]);
            // One that is on its way out has no more to say; those that run start others for ever.
            Eventually.Equals("", () => string.Join(' ', Running(source.Pid)), $"no thread of the source runs in call {call}", seconds: 1);
            caller.Say("go");
            target.AssertContent(caller.HearSuccess(), Pages * Page, 1);
        }
    }

    private static List<string> Running(int pid)
    {
        List<string> running = [];
        foreach (string task in Directory.EnumerateDirectories($"/proc/{pid}/task"))
        {
            try
            {
                string[] status = File.ReadAllLines($"{task}/status");
                char state = status.First(line => line.StartsWith("State:", StringComparison.Ordinal))[7];
                if (state is not ('t' or 'Z' or 'X')) running.Add($"{Path.GetFileName(task)}:{state}");
            }
            catch (Exception e) when (e is IOException or DirectoryNotFoundException)
            {
                // It has ended between the list and the look.
            }
        }
        return running;
    }
}
