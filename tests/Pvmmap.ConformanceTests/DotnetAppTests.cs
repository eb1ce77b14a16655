using System.Diagnostics;
using System.Globalization;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>A .NET program at work (programs/DotnetApp), and children that this process started with System.Diagnostics.Process.</summary>
public sealed class DotnetAppTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 16 * MiB;

    [Fact]
    public void As_source()
    {
        Actor app = NewActor(Theatre.DotnetApp);
        Puppet target = NewPuppet();
        ulong at = app.Number($"allocate {Length}"), pinned = app.Number($"array {Length}");
        app.Fill(at, Length, 1);
        app.Fill(pinned, Length, 2);
        for (int round = 0; round < 10; round++)
        {
            app.Post($"collect 5"); // collections are under way while it is stopped
            MmapResult native = Call(app, target, at, Length), managed = Call(app, Own, pinned, Length, flags: MmapFlags.Lazy);
            target.AssertContent(native.Address, Length, 1);
            Own.AssertContent(managed.Address, Length, 2);
            app.Answer();
            AssertCompletes(native);
        }
        AssertWorks(app);
    }

    [Fact]
    public void As_target()
    {
        Actor app = NewActor(Theatre.DotnetApp);
        ulong own = MapFilled(Own, Length, 1), place = app.Number($"allocate {Length}");
        for (int round = 0; round < 10; round++)
        {
            app.Post($"collect 5");
            MmapResult free = Call(Own, app, own, Length), over = Call(Own, app, own, Length, place, MmapFlags.Fixed | MmapFlags.Lazy);
            app.Answer();
            Assert.True(app.Number($"collect 2") > 0);
            app.AssertContent(free.Address, Length, 1);
            app.AssertContent(place, Length, 1);
            app.Fill(place, Length, 3);
            over.Duplication.Finish();
            AssertCompletes(over);
            app.AssertContent(place, Length, 3);
        }
        AssertWorks(app);
    }

    public static TheoryData<Mode, bool, bool> Views => new MatrixTheoryData<Mode, bool, bool>([Mode.Copy, Mode.Move], [false, true], [false, true]);

    /// <summary>Each is mapped with MADV_DONTFORK.</summary>
    [Theory]
    [MemberData(nameof(Views))]
    public void A_view_of_a_memory_mapped_file_arrives_like_any_other_memory(Mode mode, bool ofFile, bool copyOnWrite)
    {
        Actor app = NewActor(Theatre.DotnetApp);
        Puppet target = NewPuppet();
        ulong at = app.Number($"view {Length} {(ofFile ? 1 : 0)} {(copyOnWrite ? 1 : 0)}");
        app.Fill(at, Length, 1);
        Vma view = Assert.Single(Smaps.Within(app.Pid, at, Length));
        Assert.True(view.Has("dc"), $"{view}: {view.Flags}");
        MmapResult result = Call(app, target, at, Length, flags: mode.Flag());
        AssertCompletes(result);
        target.AssertContent(result.Address, Length, 1);
        Vma arrived = Assert.Single(Smaps.Within(target.Pid, result.Address, Length));
        Assert.Equal((view.Permissions, view.Inode), (arrived.Permissions, arrived.Inode));
        Assert.False(arrived.Has("dc"));
        target.Fill(result.Address, MiB, 2);
        if (mode == Mode.Copy)
        {
            app.AssertContent(at, MiB, copyOnWrite ? 1u : 2);
            Assert.True(Assert.Single(Smaps.Within(app.Pid, at, Length)).Has("dc"), "the source has lost its flag");
        }
        else
        {
            // The runtime may have mapped something of its own there meanwhile.
            Assert.DoesNotContain(Smaps.Within(app.Pid, at, Length), vma => vma.Inode == view.Inode);
        }
        AssertWorks(app);
    }

    [Fact]
    public void A_managed_array_is_replaced_under_the_collector()
    {
        Actor app = NewActor(Theatre.DotnetApp);
        ulong own = MapFilled(Own, Length, 1), pinned = app.Number($"array {Length}");
        MmapResult result = Call(Own, app, own, Length, pinned, MmapFlags.Fixed | MmapFlags.Lazy);
        Assert.True(app.Number($"collect 5") > 0);
        app.AssertContent(pinned, Length, 1);
        result.Duplication.Finish();
        AssertCompletes(result);
        AssertWorks(app);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_child_of_this_process_while_Process_keeps_telling_the_truth(bool dotnetChild)
    {
        Puppet third = NewPuppet();
        using Process child = Process.Start(new ProcessStartInfo(
            dotnetChild ? Theatre.DotnetApp : Theatre.Program("puppet"), [Theatre.Door]) { RedirectStandardOutput = true })!;
        Actor actor = Cast(dotnetChild ? new Actor(Theatre, child.Id, fromNursery: false) : new Puppet(Theatre, child.Id, fromNursery: false));
        ulong theirs = dotnetChild ? actor.Number($"allocate {Length}") : actor.Map(Length), own = MapFilled(Own, Length, 2);
        actor.Fill(theirs, Length, 1);
        bool exited = false;
        child.EnableRaisingEvents = true;
        child.Exited += (_, _) => Volatile.Write(ref exited, true);
        Task waiting = child.WaitForExitAsync(TestContext.Current.CancellationToken);
        using var siblings = new Siblings();
        for (int round = 0; round < 20; round++)
        {
            MmapResult pull = Call(actor, Own, theirs, Length), push = Call(Own, actor, own, Length), between = Call(actor, third, theirs, Length);
            Assert.False(child.HasExited || waiting.IsCompleted || Volatile.Read(ref exited), "a stop was taken for an exit");
            Own.AssertContent(pull.Address, MiB, 1);
            actor.AssertContent(push.Address, MiB, 2);
            third.AssertContent(between.Address, MiB, 1);
            foreach (MmapResult result in (MmapResult[])[pull, push, between]) AssertCompletes(result);
        }
        siblings.AssertEachToldTheTruth();
        Libc.Kill(child.Id, Libc.SIGKILL);
        await waiting.WaitAsync(TimeSpan.FromSeconds(20), TestContext.Current.CancellationToken);
        Assert.True(child.HasExited);
        Assert.Equal(128 + Libc.SIGKILL, child.ExitCode);
    }

    [Fact]
    public async Task A_child_that_exits_right_behind_the_call()
    {
        for (int round = 0; round < 20; round++)
        {
            using Process child = Process.Start(new ProcessStartInfo(Theatre.Program("puppet"), [Theatre.Door]))!;
            var puppet = Cast(new Puppet(Theatre, child.Id, fromNursery: false));
            ulong at = puppet.MapFilled(MiB, 1);
            MmapResult result = Call(puppet, Own, at, MiB);
            puppet.Post($"exit {round + 1}");
            Task waiting = child.WaitForExitAsync(TestContext.Current.CancellationToken);
            await waiting.WaitAsync(TimeSpan.FromSeconds(20), TestContext.Current.CancellationToken);
            Assert.Equal(round + 1, child.ExitCode);
            Own.AssertContent(result.Address, MiB, 1);
            AssertCompletes(result);
        }
    }

    private static void AssertWorks(Actor app)
    {
        ulong rounds = app.Number($"work");
        Eventually.Holds(() => app.Number($"work") > rounds + 5, "the program's tasks and timers go on");
        Assert.Equal("0", app.Ask($"work")[1]);
    }

    /// <summary>Other children that come and go all the time; each must be seen to end, with its own exit code.</summary>
    private sealed class Siblings : IDisposable
    {
        private readonly Thread _thread;
        private readonly List<string> _lies = [];
        private int _seen;
        private bool _stop;

        public Siblings()
        {
            _thread = new Thread(Loop) { IsBackground = true };
            _thread.Start();
        }

        public void AssertEachToldTheTruth()
        {
            Eventually.Holds(() => Volatile.Read(ref _seen) > 20, "siblings come and go");
            Dispose();
            Assert.Empty(_lies);
        }

        public void Dispose()
        {
            Volatile.Write(ref _stop, true);
            _thread.Join();
        }

        private void Loop()
        {
            for (int code = 1; !Volatile.Read(ref _stop); code = code % 100 + 1)
            {
                string command = string.Create(CultureInfo.InvariantCulture, $"exit {code}");
                using Process process = Process.Start(new ProcessStartInfo("sh", ["-c", command]))!;
                if (!process.WaitForExit(20_000)) _lies.Add($"{process.Id} never ended");
                else if (process.ExitCode != code) _lies.Add($"{process.Id} exited with {code}, Process says {process.ExitCode}");
                Interlocked.Increment(ref _seen);
            }
        }
    }
}
