using System.Runtime.InteropServices;
using Microsoft.Diagnostics.Runtime;
using Pvmmap.ConformanceTests.Cli;
using Pvmmap.ConformanceTests.Stage;
using Pvmmap.Diagnostics;

namespace Pvmmap.ConformanceTests.Diagnostics;

/// <summary>ClrMD on a snapshot of a .NET program (programs/HeapApp), beside ClrMD on a full dump of the same stopped process.</summary>
public sealed class RuntimeSnapshotTests(Theatre theatre) : Scene(theatre)
{
    private const int Depth = 10, Nodes = (1 << Depth) - 1, Threads = 3;

    private static readonly RuntimeSnapshotOptions s_walkable = new() { WaitForWalkableHeap = true };

    [Fact]
    public void Objects_and_roots_are_those_of_a_full_dump()
    {
        Actor app = NewHeapApp();
        app.Ask($"native 16");
        using RuntimeSnapshot snapshot = StopWithWalkableHeap(app);
        using RuntimeDump dump = RuntimeDump.Of(Theatre, app.Pid);
        HashSet<(ulong, string?, ulong)> expected = [.. Objects(dump.Runtime)], seen = [.. Objects(snapshot.Runtime)];
        Assert.Equal(Nodes, expected.Count(item => item.Item2 == "HeapApp.Node"));
        Assert.True(seen.SetEquals(expected), $"{seen.Count} objects, {expected.Count} in the dump: {string.Join(", ", seen.Except(expected).Concat(expected.Except(seen)).Take(5))}");
        var roots = Roots(dump.Runtime);
        Assert.NotEmpty(roots);
        Assert.Equal(roots, Roots(snapshot.Runtime));
        Continue(app);
    }

    /// <summary>As the tool writes it without being told what of: the runtime's own files have to be in it.</summary>
    [Theory]
    [InlineData("core")]
    [InlineData("core.zst")]
    public void Objects_roots_and_stacks_of_a_core_file_are_those_of_a_full_dump(string name)
    {
        Machine.RequireProgram("zstd");
        Actor app = NewHeapApp();
        StopWithWalkableHeap(app).Dispose();
        // the dump first, as above
        using RuntimeDump dump = RuntimeDump.Of(Theatre, app.Pid);
        string path = Path.Combine(Theatre.NewFolder($"core-{Guid.NewGuid():N}"), name);
        ToolResult result = Tool.Run($"snapshot {app.Pid} -o {path}");
        Assert.Equal((0, ""), (result.Code, result.Errors));
        if (Path.GetExtension(path).Length != 0)
        {
            (int code, string output) = Theatre.Run("zstd", "-d", "--rm", "-q", path);
            Assert.True(code == 0, output);
            path = Path.ChangeExtension(path, null);
        }

        using RuntimeDump core = RuntimeDump.Load(path, app.Pid);
        HashSet<(ulong, string?, ulong)> expected = [.. Objects(dump.Runtime)], seen = [.. Objects(core.Runtime)];
        Assert.Equal(Nodes, expected.Count(item => item.Item2 == "HeapApp.Node"));
        Assert.True(seen.SetEquals(expected), $"{seen.Count} objects, {expected.Count} in the dump: {string.Join(", ", seen.Except(expected).Concat(expected.Except(seen)).Take(5))}");
        var roots = Roots(dump.Runtime);
        Assert.NotEmpty(roots);
        Assert.Equal(roots, Roots(core.Runtime));
        List<string> stacks = Stacks(dump.Runtime);
        Assert.Contains(stacks, line => line.Contains("HeapApp.Load.Make", StringComparison.Ordinal));
        Assert.Equal(stacks, Stacks(core.Runtime));
        Continue(app);
    }

    [Fact]
    public void The_stacks_of_all_managed_threads_are_those_of_a_full_dump()
    {
        Actor app = NewHeapApp();
        app.Ask($"load {Threads}");
        for (int round = 0; round < 5; round++)
        {
            Stop(app);
            // the dump first: a capture has the thread do a system call over that the stop had interrupted, which shows in its registers
            using RuntimeDump dump = RuntimeDump.Of(Theatre, app.Pid);
            using RuntimeSnapshot snapshot = RuntimeSnapshot.Capture(app.Pid);
            List<string> stacks = Stacks(dump.Runtime);
            Assert.Equal(stacks, Stacks(snapshot.Runtime));
            Assert.Contains(stacks, line => line.Contains("HeapApp.Load.Make", StringComparison.Ordinal));
            Continue(app);
        }
    }

    [Fact]
    public void Registers_and_modules_are_those_of_a_full_dump()
    {
        Actor app = NewHeapApp();
        Stop(app);
        using RuntimeDump dump = RuntimeDump.Of(Theatre, app.Pid);
        using RuntimeSnapshot snapshot = RuntimeSnapshot.Capture(app.Pid);
        IDataReader ours = snapshot.Runtime.DataTarget.DataReader, theirs = dump.Runtime.DataTarget.DataReader;
        Assert.NotEmpty(snapshot.Runtime.Threads);
        foreach (ClrThread thread in snapshot.Runtime.Threads.Where(thread => thread.IsAlive))
        {
            var (expected, seen) = (new AMD64Context[1], new AMD64Context[1]);
            Assert.True(theirs.GetThreadContext(thread.OSThreadId, AMD64Context.Context, MemoryMarshal.AsBytes(expected.AsSpan())));
            Assert.True(ours.GetThreadContext(thread.OSThreadId, AMD64Context.Context, MemoryMarshal.AsBytes(seen.AsSpan())));
            Assert.Equal(General(expected[0]), General(seen[0]));
        }

        // ClrMD leaves the dynamic loader out of a core dump's
        HashSet<string> native = [.. dump.Runtime.DataTarget.EnumerateModules().Where(IsLibrary).Select(Describe)];
        Assert.Contains(native, line => line.Contains("libcoreclr.so", StringComparison.Ordinal));
        Assert.Subset(snapshot.Runtime.DataTarget.EnumerateModules().Where(IsLibrary).Select(Describe).ToHashSet(), native);
        Continue(app);
    }

    [Fact]
    public void Fifty_snapshots_under_load_have_a_heap_without_a_fault()
    {
        Actor app = NewHeapApp();
        app.Ask($"load {Threads}");
        ulong collections = app.Number($"collections");
        for (int round = 0; round < 50; round++)
        {
            using RuntimeSnapshot snapshot = RuntimeSnapshot.Capture(app.Pid, s_walkable);
            ObjectCorruption[] faults = [.. snapshot.Runtime.Heap.VerifyHeap().Take(3)];
            Assert.True(faults.Length == 0, $"round {round}: {string.Join(", ", faults.Select(fault => $"{fault.Object} {fault.Kind} at {fault.Offset}"))}");
            Assert.Equal((ulong)Nodes, snapshot.CountHeap().Types.Single(type => type.Name == "HeapApp.Node").Count);
        }

        Assert.True(app.Number($"collections") > collections, "the program did not come to collect garbage");
        Assert.True(app.Number($"calm") > 0);
    }

    [Fact]
    public void The_tree_is_found_whole_from_its_root()
    {
        Actor app = NewHeapApp();
        using RuntimeSnapshot snapshot = RuntimeSnapshot.Capture(app.Pid, s_walkable);
        ClrObject root = Assert.Single(snapshot.Runtime.Heap.EnumerateObjects(), item => item.Type?.Name == "HeapApp.Node" && item.ReadField<int>(Field("Number")) == Nodes - 1);
        int seen = 0;
        Visit(root, Depth);
        Assert.Equal(Nodes, seen);

        void Visit(ClrObject node, int levels)
        {
            if (levels == 0)
            {
                Assert.True(node.IsNull);
                return;
            }

            seen++;
            int number = node.ReadField<int>(Field("Number"));
            Assert.Equal($"{number}", node.ReadStringField(Field("Name")));
            Assert.Equal(number % 100, node.ReadObjectField(Field("Bytes")).AsArray().Length);
            Visit(node.ReadObjectField(Field("Left")), levels - 1);
            Visit(node.ReadObjectField(Field("Right")), levels - 1);
        }

        static string Field(string property) => $"<{property}>k__BackingField";
    }

    [Fact]
    public void A_program_without_the_runtime_is_refused()
    {
        Puppet puppet = NewPuppet();
        AssertRefused(Errno.EINVAL, "not a .NET process", () => RuntimeSnapshot.Capture(puppet.Pid));
        puppet.Kill();
        Assert.Equal(Errno.ESRCH, Assert.Throws<PvmmapException>(() => RuntimeSnapshot.Capture(puppet.Pid)).Errno);
    }

    [Fact]
    public void The_data_access_library_must_be_there_be_trusted_and_fit()
    {
        // a runtime of its own, so that it can be spoiled
        string own = Theatre.NewFolder("dotnet"), runtime = RuntimeDump.RuntimeFolder(NewHeapApp().Pid);
        string root = Path.GetFullPath(Path.Combine(runtime, "../../.."));
        foreach (string part in (string[])["host", "shared/Microsoft.NETCore.App"])
        {
            Directory.CreateDirectory(Path.Combine(own, part, ".."));
            (int code, string output) = Theatre.Run("cp", "-r", Path.Combine(root, part), Path.Combine(own, part));
            Assert.True(code == 0, output);
        }

        Actor app = NewActor("env", "-u", "DOTNET_ROOT_X64", $"DOTNET_ROOT={own}", Theatre.HeapApp); // dotnet test sets the one that goes first
        string dac = Path.Combine(RuntimeDump.RuntimeFolder(app.Pid), "libmscordaccore.so"), good = Path.Combine(runtime, "libmscordaccore.so");
        Assert.StartsWith(own, dac, StringComparison.Ordinal);
        RuntimeSnapshot.Capture(app.Pid).Dispose();

        File.SetUnixFileMode(dac, File.GetUnixFileMode(dac) | UnixFileMode.OtherWrite);
        AssertRefused(Errno.EACCES, "another user", () => RuntimeSnapshot.Capture(app.Pid));
        File.SetUnixFileMode(dac, File.GetUnixFileMode(dac) & ~UnixFileMode.OtherWrite);

        byte[] bytes = File.ReadAllBytes(dac);
        int version = bytes.AsSpan().IndexOf("@(#)Version "u8) + "@(#)Version ".Length;
        bytes[version] = (byte)'9';
        File.Delete(dac);
        File.WriteAllBytes(dac, bytes);
        AssertRefused(Errno.ENODEV, "is of version 9", () => RuntimeSnapshot.Capture(app.Pid));

        File.Delete(dac);
        AssertRefused(Errno.ENOENT, dac, () => RuntimeSnapshot.Capture(app.Pid));
        RuntimeSnapshot.Capture(app.Pid, new RuntimeSnapshotOptions { DacPath = good }).Dispose();
        AssertRefused(Errno.ENOENT, "/nowhere", () => RuntimeSnapshot.Capture(app.Pid, new RuntimeSnapshotOptions { DacPath = "/nowhere" }));
    }

    private static IEnumerable<(ulong, string?, ulong)> Objects(ClrRuntime runtime) =>
        runtime.Heap.EnumerateObjects().Select(item => (item.Address, item.Type?.Name, item.Size));

    private static List<string> Roots(ClrRuntime runtime) =>
        [.. runtime.Heap.EnumerateRoots().Select(root => $"{root.RootKind} {root.Address:x} {root.Object.Address:x} {root.Object.Type?.Name} {root.IsInterior} {root.IsPinned}").Order(StringComparer.Ordinal)];

    private static List<string> Stacks(ClrRuntime runtime) =>
        [.. runtime.Threads.OrderBy(thread => thread.OSThreadId).SelectMany(thread => (string[])
            [$"thread {thread.OSThreadId}", .. thread.EnumerateStackTrace().Select(frame => $"{frame.InstructionPointer:x} {frame.StackPointer:x} {frame}")])];

    /// <summary>Without R8 and R9, which ClrMD 4.2 takes for each other in a core dump; ThreadContextTests have them.</summary>
    private static ulong[] General(AMD64Context context) =>
    [
        context.Rax, context.Rbx, context.Rcx, context.Rdx, context.Rsi, context.Rdi, context.Rbp, context.Rsp, context.Rip, context.R10, context.R11, context.R12, context.R13,
        context.R14, context.R15, context.Cs, context.Ss,
    ];

    private static bool IsLibrary(ModuleInfo module) => module.Kind == ModuleKind.Elf && Path.GetFileName(module.FileName).Contains(".so", StringComparison.Ordinal)
        && !module.FileName.Contains("vdso", StringComparison.Ordinal);

    private static string Describe(ModuleInfo module) => $"{module.FileName} {module.ImageBase:x} {Convert.ToHexString(module.BuildId.AsSpan())}";

    private static void AssertRefused(Errno errno, string expected, Func<RuntimeSnapshot> capture)
    {
        var exception = Assert.Throws<PvmmapException>(() => capture().Dispose());
        Assert.True(exception.Errno == errno, exception.Message);
        Assert.Contains(expected, exception.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', exception.Message);
    }

    private static void Stop(Actor app)
    {
        Libc.Kill(app.Pid, Libc.SIGSTOP);
        Eventually.Holds(() => Directory.GetDirectories($"/proc/{app.Pid}/task").All(task => File.ReadAllText($"{task}/stat").Split(") ")[^1][0] == 'T'), "every thread stops");
    }

    private static void Continue(Actor app)
    {
        Libc.Kill(app.Pid, Libc.SIGCONT);
        Assert.True(app.Number($"collections") < ulong.MaxValue); // it answers
    }

    private Actor NewHeapApp()
    {
        Actor app = NewActor(Theatre.HeapApp);
        app.Ask($"graph {Depth}");
        return app;
    }

    /// <summary>Stopped under load, and the threads that made it still there.</summary>
    private static RuntimeSnapshot StopWithWalkableHeap(Actor app)
    {
        app.Ask($"load {Threads}");
        RuntimeSnapshot? snapshot = null;
        Eventually.Holds(
            () =>
            {
                Stop(app);
                try
                {
                    snapshot = RuntimeSnapshot.Capture(app.Pid, s_walkable with { Timeout = TimeSpan.Zero });
                }
                catch (PvmmapException e) when (e.Errno == Errno.ETIMEDOUT)
                {
                    Libc.Kill(app.Pid, Libc.SIGCONT);
                }

                return snapshot is not null;
            },
            "the program is caught with a heap that can be walked");
        return snapshot!;
    }
}
