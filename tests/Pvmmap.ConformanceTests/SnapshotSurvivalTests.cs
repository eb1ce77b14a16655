using System.Diagnostics;
using System.Globalization;
using Pvmmap.ConformanceTests.Cli;
using Pvmmap.ConformanceTests.Stage;
using Pvmmap.ConformanceTests.Survival;
using Pvmmap.Snapshots;

namespace Pvmmap.ConformanceTests;

/// <summary>A capture of which somebody is killed -9: the caller, its tracer, the keeper, the source. The source is as found, and nobody of ours is left.</summary>
public sealed class SnapshotSurvivalTests(Theatre theatre) : Scene(theatre)
{
    /// <summary>Who is killed. The source last: it is another one after that.</summary>
    private enum Role { Caller, Tracer, Keeper, Source }

    private static readonly CallStep[] s_before =
    [
        CallStep.Checked, CallStep.SourceStopped, CallStep.SourceWayBackWritten, CallStep.SourcePagesMapped, CallStep.SourcePrepared, CallStep.RangeProbed,
        CallStep.IntermediateStarted, CallStep.HolderForked, CallStep.IntermediateReaped, CallStep.SourcePagesUnmapped, CallStep.SourceReleased,
        CallStep.ImageMapped, CallStep.ImageLoaded, CallStep.HolderLaunched, CallStep.Returned,
    ];

    private static readonly int s_times = Environment.GetEnvironmentVariable("PVMMAP_TEST_FULL") == "1" ? 200 : 30;

    public static TheoryData<string> Steps => [.. s_before.Select(step => step.ToString()), .. Enum.GetNames<SnapshotStep>().Skip(1)];

    [Theory]
    [MemberData(nameof(Steps))]
    public void At_each_step(string step)
    {
        using Sitter sitter = new(Theatre) { MayHaveTwoPages = step is nameof(CallStep.SourcePagesMapped) };
        List<string> bad = [];
        foreach (Role role in Enum.GetValues<Role>())
        {
            try
            {
                Play(sitter, step, role);
            }
            catch (Exception e) when (e is not OperationCanceledException)
            {
                bad.Add($"{role} killed: {e.Message}");
            }
        }
        Assert.True(bad.Count == 0, $"at {step}\n{string.Join('\n', bad)}");
    }

    [Fact]
    public void The_tool_at_any_moment()
    {
        string folder = Theatre.NewFolder($"kill-{Guid.NewGuid():N}"), file = Path.Combine(folder, "core");
        Sitter sitter = NewSitter();
        TimeSpan whole = RunWhole(sitter, file);
        Random random = NewRandom();
        int killed = 0, interrupted = 0;
        for (int i = 0; i < s_times; i++)
        {
            TimeSpan after = whole * (random.NextDouble() * 1.1);
            int tool = StartTool(sitter, file);
            WaitFor(after);
            Libc.Kill(tool, Libc.SIGKILL);
            // One that had ended by then has shown that the whole takes no longer: the machine was busier before.
            if (Theatre.Nursery.WaitForEnd(tool) == -Libc.SIGKILL) killed++;
            else if (after < whole) whole = after;
            try
            {
                sitter.AssertAsFound($"killed after {after.TotalMilliseconds:0.000} ms of {whole.TotalMilliseconds:0}");
            }
            catch (Xunit.Sdk.XunitException) when (sitter.HasSeenEintr)
            {
                sitter.AssertAlone("an EINTR has been seen");
                interrupted++;
                sitter = NewSitter();
            }
            // If it has its name, it is whole.
            if (File.Exists(file)) AssertWhole(sitter, file);
            File.Delete(file);
            Assert.Empty(Directory.GetFileSystemEntries(folder));
        }
        Assert.True(killed > s_times / 2, $"only {killed} of {s_times} were killed");
        // Where the machine is busy, the instant between stopping the threads and repairing what that interrupted is a larger part of the whole.
        // That it is over at each step behind the stop is what At_each_step shows.
        Assert.True(interrupted <= s_times / 3, $"an EINTR was seen {interrupted} times in {s_times}: that is no rare instant");

        Sitter NewSitter() => Borrow(new Sitter(Theatre, bulk: 16 * MiB) { MayHaveTwoPages = true });
    }

    [Fact]
    public void The_source_at_any_moment()
    {
        string folder = Theatre.NewFolder($"kill-{Guid.NewGuid():N}"), file = Path.Combine(folder, "core");
        TimeSpan whole;
        using (Sitter first = new(Theatre, bulk: 16 * MiB)) whole = RunWhole(first, file);
        Random random = NewRandom();
        int refused = 0, times = s_times / 2;
        for (int i = 0; i < times; i++)
        {
            using Sitter sitter = new(Theatre, bulk: 16 * MiB);
            TimeSpan after = whole * random.NextDouble();
            using Tool tool = Tool.Start($"snapshot {sitter.Pid} -o {file}");
            WaitFor(after);
            sitter.Puppet.Kill();
            ToolResult result = tool.Finish();
            string when = $"the source was killed after {after.TotalMilliseconds:0.000} ms of {whole.TotalMilliseconds:0}: {result}";
            if (result.Code == 0)
            {
                AssertWhole(sitter, file);
                File.Delete(file);
            }
            else
            {
                refused++;
                Assert.True(result.Code == 1 && IsOneLine(result.Errors), when);
                Assert.Contains("ESRCH", result.Errors, StringComparison.Ordinal);
            }
            Assert.Empty(Directory.GetFileSystemEntries(folder));
            sitter.AssertAlone(when);
        }
        Assert.InRange(refused, 1, times);
    }

    [Fact]
    public void The_keeper_while_a_core_is_written()
    {
        using Sitter sitter = new(Theatre, bulk: 96 * MiB);
        string folder = Theatre.NewFolder($"kill-{Guid.NewGuid():N}"), file = Path.Combine(folder, "core.gz");
        Random random = NewRandom();
        for (int i = 0; i < 5; i++)
        {
            using Tool tool = Tool.Start($"snapshot {sitter.Pid} -o {file} --compress gzip");
            // It takes gzip seconds to write.
            int keeper = 0;
            Eventually.Holds(() => (keeper = KeeperOf(sitter.Pid)) != 0, "there is a keeper");
            WaitFor(TimeSpan.FromMilliseconds(300 * random.NextDouble()));
            Libc.Kill(keeper, Libc.SIGKILL);
            ToolResult result = tool.Finish();
            Assert.True(result is { Code: 1, Output: "" } && IsOneLine(result.Errors), $"the keeper was killed: {result}");
            Assert.Contains("EAGAIN", result.Errors, StringComparison.Ordinal);
            Assert.Empty(Directory.GetFileSystemEntries(folder));
        }
        sitter.AssertAsFound("keepers were killed");
    }

    /// <summary>It takes the kernel a while to take such a process down, and for that long it is not dead yet, but has no memory any more.</summary>
    [Fact]
    public void A_large_keeper_that_is_being_taken_down_reads_as_nothing_else_than_killed()
    {
        Puppet source = NewPuppet();
        ulong at = source.MapFilled(256 * MiB, 1);
        for (int i = 0; i < 5; i++)
        {
            using ProcessSnapshot snapshot = ProcessSnapshot.Capture(source.Pid);
            // All of it its own, so that it has much to take down.
            source.Fill(at, 256 * MiB, 1);
            Libc.Kill(snapshot.KeeperPid, Libc.SIGKILL);
            PageRange range = new(at, at + 256 * MiB);
            byte[] page = new byte[Page];
            for (bool read = true, listed = true; read || listed;)
            {
                read = read && Tells(() => snapshot.Read(at, page), () => Assert.Equal(Pattern.FirstWord(1, 0), BitConverter.ToUInt64(page)));
                IReadOnlyList<PageRange> populated = [];
                listed = listed && Tells(() => populated = snapshot.Populated(range), () => Assert.Equal([range], populated));
            }
        }

        static bool Tells(Action look, Action check)
        {
            try
            {
                look();
            }
            catch (PvmmapException e)
            {
                Assert.True(e.Errno == Errno.EAGAIN, e.Message);
                return false;
            }
            check();
            return true;
        }
    }

    private void Play(Sitter sitter, string step, Role role)
    {
        using SteppedCaller caller = new(Theatre, new SteppedCall(sitter.Pid, 0, Sitter.Address, Sitter.Pages, step), sitter.Beside());
        caller.Say("capture");
        string[] answer = caller.Hear("at", "done") ?? throw new InvalidOperationException("it hangs before the step");
        if (answer[0] != "at") throw new InvalidOperationException($"it ended before the step: {string.Join(' ', answer)}");
        int victim = role switch
        {
            Role.Caller => caller.Pid,
            Role.Source => sitter.Pid,
            Role.Keeper => caller.Holder,
            _ => TracerOf(caller.Pid, mustBe: step != nameof(CallStep.Returned)),
        };
        bool there = victim != 0 && ProcessStatus.IsAlive(victim);
        Assert.True(there || role == Role.Keeper || step == nameof(CallStep.Returned), "nobody is there to be killed");
        if (there)
        {
            Libc.Kill(victim, Libc.SIGKILL);
            Eventually.Holds(() => !ProcessStatus.IsAlive(victim), "who is killed dies");
        }
        if (role != Role.Caller) AssertTold(caller, role, there, step);
        if (role == Role.Source) sitter.AssertAlone("afterwards", caller.Pid);
        else sitter.AssertAsFound("afterwards", caller.Pid);
    }

    // It gives itself its name, perhaps only after the caller has come to its first step.
    private static int TracerOf(int caller, bool mustBe)
    {
        int tracer = Named();
        if (mustBe) Eventually.Holds(() => (tracer = Named()) != 0, "the caller has a tracer");
        return tracer;

        int Named() => ProcessStatus.Children(caller).FirstOrDefault(child => ProcessStatus.Name(child) == "pvmmap-tracer");
    }

    private static void AssertTold(SteppedCaller caller, Role role, bool killed, string step)
    {
        caller.Say("go");
        string[] done = caller.Hear("done") ?? throw new InvalidOperationException("the capture does not return");
        Errno errno = (Errno)int.Parse(done[2], CultureInfo.InvariantCulture);
        bool right = role switch
        {
            Role.Keeper => errno == (killed ? Errno.EAGAIN : Errno.None),
            Role.Tracer => errno is Errno.None or Errno.EAGAIN,
            // There is a fork of it, but what a fork does not keep can no longer be read.
            Role.Source when step is nameof(SnapshotStep.AdviceRestored) or nameof(SnapshotStep.PagemapOpened) => errno == Errno.ESRCH,
            _ => errno is Errno.None or Errno.ESRCH,
        };
        Assert.True(right, $"the capture says {string.Join(' ', done)}");
    }

    /// <summary>The shortest time that it takes: a machine that is busy once would have all victims killed too late.</summary>
    private TimeSpan RunWhole(Sitter sitter, string file) => Enumerable.Range(0, 5).Min(_ => RunOnce(sitter, file));

    private TimeSpan RunOnce(Sitter sitter, string file)
    {
        var clock = Stopwatch.StartNew();
        int tool = StartTool(sitter, file);
        Assert.Equal(0, Theatre.Nursery.WaitForEnd(tool));
        TimeSpan time = clock.Elapsed;
        AssertWhole(sitter, file);
        File.Delete(file);
        return time;
    }

    private int StartTool(Sitter sitter, string file) => Theatre.Start(sitter.Beside(Tool.Path, "snapshot", $"{sitter.Pid}", "-o", file));

    private static void AssertWhole(Sitter sitter, string file)
    {
        using CoreImage core = new(file);
        sitter.AssertWhole((address, length) => core.Read(address, length) ?? throw new InvalidOperationException($"the core has no content for 0x{address:x} + {length}"));
    }

    // Captures of other tests may be under way.
    private static int KeeperOf(int source) => ProcessSnapshot.Running().FirstOrDefault(listing => listing.ProcessId == source)?.KeeperPid ?? 0;

    private static bool IsOneLine(string text) => text.Length > 1 && text.IndexOf('\n', StringComparison.Ordinal) == text.Length - 1;

    // To the microsecond, as a timer would not.
    private static void WaitFor(TimeSpan time)
    {
        var clock = Stopwatch.StartNew();
        while (clock.Elapsed < time) Thread.Yield();
    }

    private static Random NewRandom()
    {
        int seed = Environment.GetEnvironmentVariable("PVMMAP_SURVIVAL_SEED") is { Length: > 0 } given ? int.Parse(given, CultureInfo.InvariantCulture) : Random.Shared.Next();
        TestContext.Current.TestOutputHelper?.WriteLine($"PVMMAP_SURVIVAL_SEED={seed}");
        return new Random(seed);
    }
}
