using System.Globalization;
using System.Text.Json;
using Microsoft.Diagnostics.Runtime;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests.Cli;

/// <summary><c>pvmmap heap</c> beside ClrMD's own count of a full dump of the same stopped process.</summary>
public sealed class HeapCommandTests(Theatre theatre) : Scene(theatre)
{
    [Fact]
    public void It_counts_what_a_full_dump_has()
    {
        Actor app = NewActor(Theatre.HeapApp);
        app.Ask($"graph 10");
        app.Ask($"collect");
        Libc.Kill(app.Pid, Libc.SIGSTOP);
        try
        {
            using RuntimeDump dump = RuntimeDump.Of(Theatre, app.Pid);
            ClrObject[] objects = [.. dump.Runtime.Heap.EnumerateObjects()];
            string[] expected = [.. Rows(objects)];

            JsonElement report = Tool.Json($"heap {app.Pid} --json");
            Assert.Equal(expected, Rows(report));
            Assert.Equal((objects.Length, objects.Sum(item => (long)item.Size)), (report.GetProperty("count").GetInt32(), report.GetProperty("size").GetInt64()));
            Assert.Equal(objects.Count(item => item.IsFree), report.GetProperty("free_count").GetInt32());
            Assert.Equal(1, report.GetProperty("snapshots").GetInt32());
            Assert.InRange(report.GetProperty("stop_time_us").GetDouble(), 1, 60e6);

            Assert.Equal(Rows(objects.Where(item => item.Size is >= 100 and <= 1024)), Rows(Tool.Json($"heap {app.Pid} --min-size 100 --max-size 1K --json")));
            Assert.Equal(Rows(objects.Where(item => item.Type!.Name!.Contains("Node", StringComparison.Ordinal))), Rows(Tool.Json($"heap {app.Pid} --type Node --json")));
            JsonElement top = Tool.Json($"heap {app.Pid} --top 3 --json");
            Assert.Equal(3, top.GetProperty("types").GetArrayLength());
            Assert.Equal(objects.Length, top.GetProperty("count").GetInt32());

            ToolResult text = Tool.Run($"heap {app.Pid}");
            Assert.Equal(0, text.Code);
            string[] lines = text.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
            Assert.Equal(["MT", "COUNT", "SIZE", "CLASS", "NAME"], lines[0].Split(' ', StringSplitOptions.RemoveEmptyEntries));
            Assert.Equal(expected.Length + 2, lines.Length);
            Assert.StartsWith($"Total {objects.Length} objects, ", lines[^1], StringComparison.Ordinal);
            Assert.Contains(lines, line => line.Contains(" 1023 ", StringComparison.Ordinal) && line.EndsWith("HeapApp.Node", StringComparison.Ordinal));
            Assert.StartsWith($"process {app.Pid} stood still for ", text.Errors, StringComparison.Ordinal);
        }
        finally
        {
            Libc.Kill(app.Pid, Libc.SIGCONT);
        }

        Assert.True(app.Number($"collections") > 0);
    }

    [Fact]
    public void Under_load_it_comes_to_a_count()
    {
        Actor app = NewActor(Theatre.HeapApp);
        app.Ask($"graph 10");
        app.Ask($"load 2");
        for (int round = 0; round < 5; round++)
        {
            JsonElement report = Tool.Json($"heap {app.Pid} --type HeapApp.Node --json");
            Assert.Equal(1023, report.GetProperty("count").GetInt32());
        }

        Assert.True(app.Number($"calm") > 0);
    }

    [Fact]
    public void Errors_are_one_line()
    {
        Puppet puppet = NewPuppet();
        AssertOneLine("not a .NET process", Tool.Run($"heap {puppet.Pid}"));
        AssertOneLine("ESRCH", Tool.Run($"heap 4194305"));
        Actor app = NewActor(Theatre.HeapApp);
        AssertOneLine("there is no /nowhere", Tool.Run($"heap {app.Pid} --dac /nowhere"));
    }

    /// <summary>Files that a program shares are none of the runtime's, and are not copied.</summary>
    [Fact]
    public void Shared_files_are_no_obstacle()
    {
        Puppet puppet = NewPuppet();
        string path = Path.Combine(Theatre.NewFolder($"shared-{Guid.NewGuid():N}"), "file");
        File.WriteAllBytes(path, new byte[8 << 20]);
        ulong at = puppet.Map(8 << 20, Prot.ReadWrite, MapFlags.Shared, fd: puppet.OpenFile(path));
        puppet.Fill(at, 8 << 20, 1);
        AssertOneLine("not a .NET process", Tool.Run($"heap {puppet.Pid} --max-shared 4M"));
        puppet.Fill(puppet.Map(8 << 20, flags: MapFlags.Shared), 8 << 20, 2);
        AssertOneLine("EFBIG: there are more than 4194304 bytes of shared memory", Tool.Run($"heap {puppet.Pid} --max-shared 4M"));
        AssertOneLine("not a .NET process", Tool.Run($"heap {puppet.Pid} --max-shared 8M"));
    }

    private static void AssertOneLine(string expected, ToolResult result)
    {
        Assert.Equal((1, ""), (result.Code, result.Output));
        Assert.StartsWith("pvmmap: ", result.Errors, StringComparison.Ordinal);
        Assert.Contains(expected, result.Errors, StringComparison.Ordinal);
        Assert.Equal(result.Errors.Length - 1, result.Errors.IndexOf('\n', StringComparison.Ordinal));
    }

    private static IEnumerable<string> Rows(IEnumerable<ClrObject> objects) => objects
        .GroupBy(item => item.Type!.MethodTable)
        .Select(group => string.Create(CultureInfo.InvariantCulture, $"0x{group.Key:x} {group.Count()} {group.Sum(item => (long)item.Size)} {group.First().Type!.Name}"))
        .Order(StringComparer.Ordinal);

    private static IEnumerable<string> Rows(JsonElement report) => report.GetProperty("types").EnumerateArray()
        .Select(row => $"{row.GetProperty("method_table").GetString()} {row.GetProperty("count").GetUInt64()} {row.GetProperty("size").GetUInt64()} {row.GetProperty("name").GetString()}")
        .Order(StringComparer.Ordinal);
}
