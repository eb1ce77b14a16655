using System.Buffers.Binary;
using System.Globalization;
using Pvmmap.ConformanceTests.Cli;
using Pvmmap.ConformanceTests.Stage;
using Pvmmap.Snapshots;

namespace Pvmmap.ConformanceTests;

/// <summary>Who may capture whom, and from where: users, debuggers, stopped processes, pid namespaces, many threads, a .NET program, many callers at once.</summary>
public sealed class SnapshotPlacesTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 8 * MiB;
    private const int Nobody = 65534, Somebody = 65533;

    private static readonly string[] s_container = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"];

    [Fact]
    public void Of_equal_uid_without_privileges()
    {
        Puppet source = NewPuppetOf(Nobody);
        (ulong at, ulong withheld, ulong shared) = Furnish(source);
        source.StartIdlers(5);
        ProcessRecord before = ProcessRecord.TakeAtRest(source.Pid);
        string file = NewFile();
        ToolResult result = Tool.Run(Theatre, As(Nobody), $"snapshot {source.Pid} -o {file}");
        Assert.True(result.Code == 0, result.Errors);
        before.AssertUnchanged();
        Assert.Equal("", source.Awake());
        AssertFileHolds(file, at, withheld, shared);
    }

    [Fact]
    public void Of_another_uid_EPERM_in_one_line_and_nothing_is_touched()
    {
        foreach (Puppet source in (Puppet[])[NewPuppetOf(Somebody), NewPuppet()])
        {
            source.StartIdlers(3);
            ProcessRecord before = ProcessRecord.TakeAtRest(source.Pid);
            string file = NewFile();
            // Whoever was stopped has been off and on the processor: each time, while others wake it now and then.
            Assert.True(Enumerable.Range(0, 5).Any(_ =>
            {
                ulong switches = Switches(source);
                AssertRefused(Tool.Run(Theatre, As(Nobody), $"snapshot {source.Pid} -o {file}"), "EPERM", file);
                return Switches(source) == switches;
            }), "the process was touched");
            before.AssertUnchanged();
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Under_a_debugger_EBUSY(bool running)
    {
        Puppet source = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        source.StartIdlers(3);
        using Debugger gdb = new Debugger().Attach(source.Pid);
        if (running) gdb.Continue();
        ProcessRecord before = ProcessRecord.TakeAtRest(source.Pid);
        Assert.Equal(Errno.EBUSY, Assert.Throws<PvmmapException>(() => ProcessSnapshot.Capture(source.Pid)).Errno);
        string file = NewFile();
        AssertRefused(Tool.Run($"snapshot {source.Pid} -o {file}"), "EBUSY", file);
        before.AssertUnchanged();
        if (running) gdb.Interrupt();
        Assert.Equal(FirstWord(1, 5), gdb.Read(at + 5 * Page, 8));
        gdb.Detach();
        using ProcessSnapshot snapshot = ProcessSnapshot.Capture(source.Pid);
        snapshot.AssertContent(at, Length, 1);
    }

    [Fact]
    public void With_one_thread_traced_by_somebody_else_EBUSY_and_the_others_go_on()
    {
        Puppet source = NewPuppet();
        source.StartIdlers(6);
        int thread = Directory.EnumerateDirectories($"/proc/{source.Pid}/task").Select(path => int.Parse(Path.GetFileName(path), CultureInfo.InvariantCulture)).Order().ElementAt(3);
        Actor tracer = Cast(new Actor(Theatre, Theatre.Start(Theatre.Program("tracer"), Theatre.Door, $"{thread}"), fromNursery: true));
        tracer.Answer();
        ProcessRecord before = ProcessRecord.TakeAtRest(source.Pid);
        PvmmapException exception = Assert.Throws<PvmmapException>(() => ProcessSnapshot.Capture(source.Pid));
        Assert.Equal(Errno.EBUSY, exception.Errno);
        Assert.Contains($"process {tracer.Pid} is tracing it", exception.Message, StringComparison.Ordinal);
        before.AssertUnchanged();
    }

    [Fact]
    public void A_debugger_can_be_attached_right_afterwards_to_the_process_and_to_the_keeper()
    {
        Puppet source = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        source.StartIdlers(3);
        for (int round = 0; round < 2; round++)
        {
            source.Fill(at, Length, 1);
            using ProcessSnapshot snapshot = ProcessSnapshot.Capture(source.Pid);
            using Debugger gdb = new Debugger().Attach(source.Pid);
            gdb.Continue();
            source.Fill(at, Length, 2);
            gdb.Interrupt();
            Assert.Equal(FirstWord(2, 5), gdb.Read(at + 5 * Page, 8));
            using (Debugger other = new Debugger().Attach(snapshot.KeeperPid))
            {
                Assert.Equal(FirstWord(1, 5), other.Read(at + 5 * Page, 8));
                snapshot.AssertContent(at, Length, 1);
                // In the second round it is released under the debugger.
                if (round == 0) other.Detach();
                else snapshot.Dispose();
            }
            if (round == 0) snapshot.AssertContent(at, Length, 1);
            else Eventually.Holds(() => !Leftovers.IsOurs(snapshot.KeeperPid), "the keeper ends");
            gdb.Detach();
        }
        Assert.Equal("", source.Awake());
        Assert.Empty(ProcessStatus.Restraints(source.Pid));
    }

    /// <summary>Whoever waits for the end of a pipe of the process must not wait for the snapshot.</summary>
    [Fact]
    public void The_keeper_has_no_file_of_the_process_open()
    {
        Puppet source = NewPuppet();
        source.StartIdlers(5);
        Assert.True(ProcessStatus.Descriptors(source.Pid) > 3);
        using ProcessSnapshot snapshot = ProcessSnapshot.Capture(source.Pid);
        string[] theirs = [.. Targets(source.Pid)], kept = [.. Targets(snapshot.KeeperPid)];
        Assert.Empty(kept.Intersect(theirs));
        Assert.Contains(kept, target => target.StartsWith("/memfd:pvmmap-snapshot", StringComparison.Ordinal));

        static IEnumerable<string> Targets(int pid) => Directory.EnumerateFileSystemEntries($"/proc/{pid}/fd").Select(fd => new FileInfo(fd).LinkTarget!);
    }

    [Fact]
    public void A_stopped_process_stays_stopped()
    {
        Puppet source = NewPuppet();
        (ulong at, ulong withheld, ulong shared) = Furnish(source);
        source.StartIdlers(3);
        Libc.Kill(source.Pid, Libc.SIGSTOP);
        Eventually.Holds(() => Directory.EnumerateDirectories($"/proc/{source.Pid}/task").All(task => File.ReadAllText($"{task}/stat").Contains(") T ", StringComparison.Ordinal)), "all threads are stopped");
        ProcessRecord before = ProcessRecord.Take(source.Pid);
        for (int round = 0; round < 5; round++)
        {
            using ProcessSnapshot snapshot = ProcessSnapshot.Capture(source.Pid);
            Assert.Equal('T', snapshot.Identity.State);
            Assert.Equal(4, snapshot.Threads.Count);
            Assert.All(snapshot.Threads, thread => Assert.Equal(('T', Libc.SIGSTOP), (thread.State, BitConverter.ToInt32(thread.SignalInformation.Span))));
            snapshot.AssertContent(at, Length, 1);
            snapshot.AssertContent(withheld, Length, 2);
            snapshot.AssertContent(shared, Length, 3);
            before.AssertUnchanged();
        }
        before.AssertUnchanged();
        Libc.Kill(source.Pid, Libc.SIGCONT);
        source.AssertContent(at, Length, 1);
        Assert.Equal("", source.Awake());
    }

    [Fact]
    public void In_a_container()
    {
        Puppet first = NewPuppetBehind(s_container);
        string[] enter = ["nsenter", $"--target={first.Pid}", "--user", "--pid", "--mount"];
        Puppet source = NewPuppetBehind(enter);
        (ulong at, ulong withheld, ulong shared) = Furnish(source);
        source.StartIdlers(5);
        ProcessRecord before = ProcessRecord.TakeAtRest(source.Pid);
        // by one outside, and by one in there
        using (ProcessSnapshot snapshot = ProcessSnapshot.Capture(source.Pid))
        {
            before.AssertUnchanged();
            source.Fill(at, Length, 9);
            snapshot.AssertContent(at, Length, 1);
            snapshot.AssertContent(withheld, Length, 2);
            snapshot.AssertContent(shared, Length, 3);
            Assert.Equal(source.Pid, snapshot.Identity.ProcessId);
            source.Fill(at, Length, 1);
        }
        before.AssertUnchanged();
        string file = NewFile();
        int inner = Procfs.ProcessStatus.Read(source.Pid).NSpid[^1];
        Assert.NotEqual(source.Pid, inner);
        ToolResult result = Tool.Run(Theatre, enter, $"snapshot {inner} -o {file}");
        Assert.True(result.Code == 0, result.Errors);
        before.AssertUnchanged();
        AssertFileHolds(file, at, withheld, shared);
    }

    [Fact]
    public void The_first_process_of_a_container_has_the_keeper_as_a_child_and_the_container_takes_it_along()
    {
        Puppet first = NewPuppetBehind(s_container);
        ulong at = first.MapFilled(Length, 1);
        ProcessRecord before = ProcessRecord.TakeAtRest(first.Pid);
        using (ProcessSnapshot snapshot = ProcessSnapshot.Capture(first.Pid))
        {
            Assert.Equal([snapshot.KeeperPid], ProcessStatus.Children(first.Pid));
            snapshot.AssertContent(at, Length, 1);
        }
        // as every orphan's, its end is for the first process to see
        const int anyChild = -1;
        Assert.Equal(Libc.SIGKILL, first.WaitFor(anyChild));
        before.AssertUnchanged();
        using ProcessSnapshot last = ProcessSnapshot.Capture(first.Pid);
        first.Kill();
        Eventually.Holds(() => !ProcessStatus.IsAlive(last.KeeperPid), "the container ends with all that is in it");
        Assert.Equal(Errno.EAGAIN, Assert.Throws<PvmmapException>(() => last.Read(at, new byte[1])).Errno);
    }

    [Fact]
    public void With_200_threads()
    {
        const int threads = 200;
        Puppet source = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        source.StartIdlers(threads);
        ProcessRecord before = ProcessRecord.TakeAtRest(source.Pid);
        for (int round = 0; round < 3; round++)
        {
            using ProcessSnapshot snapshot = ProcessSnapshot.Capture(source.Pid);
            Assert.Equal(threads + 1, snapshot.Threads.Select(thread => thread.ThreadId).Distinct().Count());
            snapshot.AssertThreadsWaited();
            snapshot.AssertContent(at, Length, 1);
        }
        before.AssertUnchanged();
        Assert.Equal("", source.Awake());
    }

    [Fact]
    public void A_dotnet_program_at_work_fifty_times()
    {
        Actor app = NewActor(Theatre.DotnetApp);
        ulong native = app.Number($"allocate {Length}"), pinned = app.Number($"array {Length}");
        app.Fill(native, Length, 1);
        List<ProcessSnapshot> kept = [];
        for (int round = 0; round < 50; round++)
        {
            app.Fill(pinned, Length, (ulong)round + 2);
            app.Post($"collect 2"); // collections are under way while it is stopped
            kept.Add(ProcessSnapshot.Capture(app.Pid));
            kept[^1].AssertContent(native, Length, 1);
            app.Answer();
            // Each tenth stays to the end.
            if (round % 10 == 0) continue;
            kept[^1].AssertContent(pinned, Length, (ulong)round + 2);
            kept[^1].Dispose();
            kept.RemoveAt(kept.Count - 1);
        }
        for (int i = 0; i < kept.Count; i++)
        {
            kept[i].AssertContent(pinned, Length, (ulong)(10 * i) + 2);
            kept[i].Dispose();
        }
        Assert.Equal(5, kept.Count);
        ulong rounds = app.Number($"work");
        Eventually.Holds(() => app.Number($"work") > rounds + 5, "the program's tasks and timers go on");
        Assert.Equal("0", app.Ask($"work")[1]);
        Assert.Empty(ProcessStatus.Restraints(app.Pid));
    }

    [Fact]
    public void Eight_at_once_by_threads_and_by_other_processes()
    {
        const int threads = 5, tools = 3;
        Puppet source = NewPuppet();
        (ulong at, ulong withheld, ulong shared) = Furnish(source);
        source.StartIdlers(5);
        ProcessRecord before = ProcessRecord.TakeAtRest(source.Pid);
        for (int round = 0; round < 3; round++)
        {
            string[] files = [.. Enumerable.Range(0, tools).Select(_ => NewFile())];
            Tool[] running = [.. files.Select(file => Tool.Start($"snapshot {source.Pid} -o {file}"))];
            using Barrier start = new(threads);
            ProcessSnapshot[] taken = new ProcessSnapshot[threads];
            Exception?[] failures = new Exception?[threads];
            Thread[] callers = [.. Enumerable.Range(0, threads).Select(i => new Thread(() =>
            {
                start.SignalAndWait();
                failures[i] = Record.Exception(() => taken[i] = ProcessSnapshot.Capture(source.Pid));
            }))];
            foreach (Thread caller in callers) caller.Start();
            foreach (Thread caller in callers) caller.Join();
            Assert.All(failures, Assert.Null);
            foreach (Tool tool in running)
            {
                ToolResult result = tool.Finish();
                Assert.True(result.Code == 0, result.Errors);
                tool.Dispose();
            }
            foreach (ProcessSnapshot snapshot in taken)
            {
                snapshot.AssertContent(at, Length, 1);
                snapshot.AssertContent(withheld, Length, 2);
                snapshot.AssertContent(shared, Length, 3);
                snapshot.Dispose();
            }
            foreach (string file in files) AssertFileHolds(file, at, withheld, shared);
        }
        before.AssertUnchanged();
        Assert.Equal("", source.Awake());
    }

    [Fact]
    public async Task While_ranges_of_the_same_process_are_copied_and_moved_into_it()
    {
        const int rounds = 15;
        Puppet source = NewPuppet(), target = NewPuppet(), giver = NewPuppet();
        (ulong at, ulong withheld, ulong shared) = Furnish(source);
        source.StartIdlers(5);
        ulong gifts = giver.MapFilled(rounds * MiB, 7), place = source.FreeRange(rounds * MiB);
        ProcessRecord before = ProcessRecord.TakeAtRest(source.Pid, new PageRange(place, place + rounds * MiB));
        Task copies = Task.Run(() =>
        {
            for (int round = 0; round < rounds; round++)
            {
                MmapResult result = Call(source, target, at, Length);
                target.AssertContent(result.Address, Length, 1);
                AssertCompletes(result);
                target.Unmap(result.Address, Length);
                ulong gift = (ulong)round * MiB;
                AssertCompletes(Call(giver, source, gifts + gift, MiB, place + gift, MmapFlags.FixedNoReplace | MmapFlags.Move));
            }
        }, TestContext.Current.CancellationToken);
        int taken = 0;
        for (; taken < 3 || !copies.IsCompleted; taken++)
        {
            using ProcessSnapshot snapshot = ProcessSnapshot.Capture(source.Pid);
            snapshot.AssertContent(at, Length, 1);
            snapshot.AssertContent(withheld, Length, 2);
            snapshot.AssertContent(shared, Length, 3);
            // What has come into it is whole, or not there.
            foreach (SnapshotRange range in snapshot.Ranges.Where(range => range.Range.Overlaps(new PageRange(place, place + rounds * MiB)) && range.IsReadable))
                snapshot.AssertContent(range.Range.Start, range.Range.Length, 7, (range.Range.Start - place) / Page);
        }
        await copies;
        before.AssertUnchanged(new PageRange(place, place + rounds * MiB));
        source.AssertContent(place, rounds * MiB, 7);
        Assert.Equal("", source.Awake());
    }

    /// <summary>Memory with the seeds 1, 2 and 3: plain, withheld from a fork, and shared.</summary>
    private static (ulong Plain, ulong Withheld, ulong Shared) Furnish(Puppet puppet)
    {
        ulong plain = puppet.MapFilled(Length, 1), withheld = puppet.Map(Length), shared = puppet.Map(Length, flags: MapFlags.Shared);
        puppet.Must(puppet.Advise(withheld, Length, Madv.DontFork), "madvise");
        puppet.Fill(withheld, Length, 2);
        puppet.Fill(shared, Length, 3);
        return (plain, withheld, shared);
    }

    private static string[] As(int user) => ["setpriv", $"--reuid={user}", $"--regid={user}", "--clear-groups"];

    /// <summary>A name in a folder where everybody may write.</summary>
    private string NewFile()
    {
        string folder = Theatre.NewFolder($"snapshot-{Guid.NewGuid():N}");
        File.SetUnixFileMode(folder, (UnixFileMode)Convert.ToInt32("777", 8));
        return Path.Combine(folder, "core");
    }

    private static void AssertRefused(ToolResult result, string errno, string file)
    {
        Assert.Equal((1, ""), (result.Code, result.Output));
        Assert.Contains($": {errno}", result.Errors, StringComparison.Ordinal);
        Assert.Equal(result.Errors.Length - 1, result.Errors.IndexOf('\n', StringComparison.Ordinal));
        Assert.Empty(Directory.GetFileSystemEntries(Path.GetDirectoryName(file)!));
    }

    private static ulong Switches(Puppet puppet)
    {
        _ = ProcessStatus.BlockedAt(puppet.Pid, puppet.Pid);
        return Directory.EnumerateDirectories($"/proc/{puppet.Pid}/task").SelectMany(task => File.ReadLines($"{task}/status")).Where(line => line.Contains("ctxt_switches", StringComparison.Ordinal))
            .Aggregate(0UL, (sum, line) => sum + ulong.Parse(line.AsSpan(line.IndexOf(':', StringComparison.Ordinal) + 1), CultureInfo.InvariantCulture));
    }

    private static void AssertFileHolds(string file, ulong plain, ulong withheld, ulong shared)
    {
        using CoreImage core = new(file);
        core.AssertContent(plain, Length, 1);
        core.AssertContent(withheld, Length, 2);
        core.AssertContent(shared, Length, 3);
    }

    private static byte[] FirstWord(ulong seed, ulong page)
    {
        byte[] bytes = new byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, Pattern.FirstWord(seed, page));
        return bytes;
    }
}
