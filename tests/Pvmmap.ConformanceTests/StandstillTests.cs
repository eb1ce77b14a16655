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
            using SteppedCaller caller = new(Theatre, Theatre.Start(
                [SteppedCaller.Program, Theatre.Door, $"{source.Pid}", $"{target.Pid}", $"0x{at:x}", $"{Pages}", "1", "0", "0", $"{CallStep.SourceStopped}", $"{Holder.FillStep.None}"]));
            try
            {
                caller.Say("call");
                Assert.Equal("at", caller.Hear("at", "done")?[0]);
                // One that is on its way out has no more to say; those that run start others for ever.
                Eventually.Equals("", () => string.Join(' ', Running(source.Pid)), $"no thread of the source runs in call {call}", seconds: 1);
                caller.Say("go");
                string[] done = caller.Hear("done") ?? throw new InvalidOperationException("the call does not return");
                Assert.True(done[2] == "0", string.Join(' ', done));
                target.AssertContent(Convert.ToUInt64(done[1], 16), Pages * Page, 1);
            }
            finally
            {
                if (ProcessStatus.IsAlive(caller.Pid)) Libc.Kill(caller.Pid, Libc.SIGKILL);
            }
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
