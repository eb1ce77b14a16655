using System.Globalization;
using System.Text.Json;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests.Cli;

/// <summary>artifacts/bin/pvmmap on real processes.</summary>
public sealed class ToolTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 16 * MiB;

    /// <summary>The commands that make the call.</summary>
    public static TheoryData<string> Modes => ["copy", "move"];

    [Fact]
    public void Map_lists_the_VMAs_that_the_kernel_lists()
    {
        Puppet puppet = NewPuppet();
        ulong at = puppet.MapFilled(Length, 1);
        JsonElement rows = Tool.Json($"map {puppet.Pid} --json");
        string[] expected = [.. File.ReadLines($"/proc/{puppet.Pid}/maps").Select(line => line.Split(' ')[0])];
        Assert.Equal(expected, rows.EnumerateArray().Select(row => $"{Number(row, "start"):x8}-{Number(row, "end"):x8}"));
        JsonElement filled = rows.EnumerateArray().Single(row => Number(row, "start") <= at && at < Number(row, "end"));
        Assert.InRange(filled.GetProperty("resident").GetUInt64(), Length, filled.GetProperty("size").GetUInt64());
        Assert.Equal("rw-p", Text(filled, "permissions"));

        string[] lines = Tool.Run($"map {puppet.Pid}").Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.StartsWith("RANGE ", lines[0], StringComparison.Ordinal);
        Assert.Equal(expected.Length + 1, lines.Length);
    }

    [Theory]
    [InlineData("{0:x}-{1:x}")]
    [InlineData("0x{0:x}-0x{1:x}")]
    [InlineData("0x{0:x}+16M")]
    [InlineData("{0}+16384K")]
    [InlineData("{0}+16777216")]
    public void Copy_takes_the_range_in_every_form(string form)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        string range = string.Format(CultureInfo.InvariantCulture, form, at, at + Length);
        JsonElement report = Tool.Json($"copy --from {source.Pid} --to {target.Pid} --range {range} --json");
        Assert.Equal(Length, report.GetProperty("bytes").GetUInt64());
        Assert.Equal("complete", Text(report, "state"));
        Assert.All(["call_time_us", "source_stop_time_us", "target_stop_time_us", "filled_after_us"], name =>
            Assert.InRange(report.GetProperty(name).GetDouble(), 0.1, 60e6));
        target.AssertContent(Number(report, "address"), Length, 1);
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void The_report_says_where_the_unaligned_data_is(string mode)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        byte[] data = source.Read(at + 5000, 100);
        JsonElement report = Tool.Json($"{mode} --from {source.Pid} --to {target.Pid} --range 0x{at + 5000:x}+100 --json");
        Assert.Equal(Number(report, "address") + ((at + 5000) % Page), Number(report, "data_address"));
        Assert.Equal(data, target.Read(Number(report, "data_address"), 100));
    }

    [Fact]
    public void Move_hands_over_the_range_and_only_the_range()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        JsonElement report = Tool.Json($"move --from {source.Pid} --to {target.Pid} --range 0x{at + MiB:x}+4M --json");
        Assert.Equal("complete", Text(report, "state"));
        target.AssertContent(Number(report, "address"), 4 * MiB, 1, MiB / Page);
        PageRange moved = new(at + MiB, at + 5 * MiB);
        Assert.DoesNotContain(Procfs.Maps.Read(source.Pid), vma => vma.Range.Overlaps(moved));
        source.AssertContent(at, MiB, 1);
        source.AssertContent(moved.End, at + Length - moved.End, 1, 5 * MiB / Page);
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void With_huge_pages_the_target_has_them_in_the_end(string mode)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapHugeAligned(Length, Madv.HugePage), place = target.MapHugeAligned(Length, Madv.HugePage);
        source.Fill(at, Length, 1);
        JsonElement report = Tool.Json($"{mode} --from {source.Pid} --to {target.Pid} --range 0x{at:x}+16M --at 0x{place:x} --fixed --huge-pages --json");
        Assert.Equal(16 * MiB, report.GetProperty("huge_page_bytes").GetUInt64());
        Assert.Equal(16 * MiB, Smaps.InHugePages(target.Pid, place, 16 * MiB));
        target.AssertContent(place, 16 * MiB, 1);
        Assert.Equal(2, Tool.Run($"{mode} --from {source.Pid} --to {target.Pid} --range 0x{at:x}+16M --huge-pages --lazy").Code);
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void In_a_pipe_there_are_plain_lines_and_no_progress(string mode)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        ToolResult result = Tool.Run($"{mode} --from {source.Pid} --to {target.Pid} --range 0x{at:x}+16M");
        Assert.Equal((0, ""), (result.Code, result.Errors));
        Assert.StartsWith("16 MiB at 0x", result.Output, StringComparison.Ordinal);
        Assert.Contains("every page in place after ", result.Output, StringComparison.Ordinal);
        Assert.DoesNotContain('\e', result.Output);
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void It_places_exactly_where_it_is_told_or_not_at_all(string mode)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1), taken = target.MapFilled(Length, 2), free = target.FreeRange(Length);
        ToolResult refused = Tool.Run($"{mode} --from {source.Pid} --to {target.Pid} --range 0x{at:x}+16M --at 0x{taken:x} --fixed-noreplace");
        AssertOneLine(1, "EEXIST", refused);
        target.AssertContent(taken, Length, 2);
        source.AssertContent(at, Length, 1);

        JsonElement placed = Tool.Json($"{mode} --from {source.Pid} --to {target.Pid} --range 0x{at:x}+16M --at {free} --fixed-noreplace --json");
        Assert.Equal(free, Number(placed, "address"));
        target.AssertContent(free, Length, 1);
        at = source.MapFilled(Length, 3); // a move has taken the first
        placed = Tool.Json($"{mode} --from {source.Pid} --to {target.Pid} --range 0x{at:x}+16M --at 0x{taken:x} --fixed --populate --json");
        Assert.Equal(taken, Number(placed, "address"));
        target.AssertContent(taken, Length, 3);
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void A_lazy_fill_shows_in_ps_and_in_map_until_it_is_done(string mode)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        JsonElement report = Tool.Json($"{mode} --from {source.Pid} --to {target.Pid} --range 0x{at:x}+16M --lazy --json");
        Assert.Equal("lazy", Text(report, "state"));
        ulong address = Number(report, "address");
        target.Touch(address, MiB);

        JsonElement listed = Assert.Single(Fills(target));
        Assert.Equal(report.GetProperty("holder_pid").GetInt32(), listed.GetProperty("holder_pid").GetInt32());
        Assert.Equal((Text(report, "address"), "lazy", mode), (Text(listed, "address"), Text(listed, "state"), Text(listed, "mode")));
        Assert.Equal((at, source.Pid), (Number(listed, "source_address"), listed.GetProperty("source_pid").GetInt32()));
        Assert.Equal("pvmmap-guardian", ProcessStatus.Name(listed.GetProperty("guardian_pid").GetInt32()));
        ulong toGo = listed.GetProperty("bytes_to_go").GetUInt64();
        Assert.InRange(toGo, 1UL, Length - MiB);
        Assert.Equal((Length, Length - toGo), (listed.GetProperty("bytes_total").GetUInt64(), listed.GetProperty("bytes_done").GetUInt64()));
        Assert.InRange(listed.GetProperty("faults_served").GetUInt64(), 1UL, MiB / Page);
        Assert.InRange(listed.GetProperty("age_us").GetInt64(), 1L, 60_000_000L);
        JsonElement[] filling = [.. Tool.Json($"map {target.Pid} --json").EnumerateArray().Where(row => row.TryGetProperty("filling", out _))];
        Assert.Contains(filling, row => Number(row, "start") == address
            && row.GetProperty("filling").GetProperty("bytes_to_go").GetUInt64() <= Length - MiB);
        Assert.Contains($" {target.Pid} ", Tool.Run($"ps").Output, StringComparison.Ordinal);

        target.AssertContent(address, Length, 1);
        Eventually.Holds(() => Fills(target).Length == 0, "the fill is no longer listed");
        Assert.DoesNotContain(Tool.Json($"map {target.Pid} --json").EnumerateArray(), row => row.TryGetProperty("filling", out _));
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void Ctrl_C_ends_the_watching_and_the_fill_goes_on(string mode)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        const ulong length = 256 * MiB;
        ulong at = source.MapFilled(length, 1);
        using Tool tool = Tool.Start($"{mode} --from {source.Pid} --to {target.Pid} --range 0x{at:x}+256M");
        Duplication? fill = null;
        try
        {
            // Stopped as soon as it is seen, so that the fill lasts until the signal has come.
            Eventually.Holds(() => (fill ??= Running(target)) is { } begun && begun.BytesToGo < begun.BytesTotal, "the fill begins");
            Libc.Kill(fill!.HolderPid, Libc.SIGSTOP);
            Eventually.Holds(() => tool.Output.StartsWith("256 MiB at ", StringComparison.Ordinal), "the call returns");
            tool.Interrupt();
            ToolResult result = tool.Finish();
            Assert.Equal(0, result.Code);
            Assert.Equal($"pvmmap: the fill goes on in process {fill.HolderPid}; 'pvmmap ps' shows it\n", result.Errors);
            Libc.Kill(fill.HolderPid, Libc.SIGCONT);
            AssertCompletes(fill);
            target.AssertContent(fill.Address, length, 1);
        }
        finally
        {
            if (fill is not null) Libc.Kill(fill.HolderPid, Libc.SIGCONT);
            fill?.Dispose();
        }
    }

    [Fact]
    public void Doctor_finds_what_the_tests_need()
    {
        JsonElement rows = Tool.Json($"doctor --json");
        JsonElement[] required = [.. rows.EnumerateArray().Where(row => row.GetProperty("required").GetBoolean())];
        Assert.NotEmpty(required);
        Assert.All(required, row => Assert.True(row.GetProperty("present").GetBoolean()));
        Assert.Equal(0, Tool.Run($"doctor").Code);
    }

    [Theory]
    [InlineData("map 4194305", 1, "ESRCH")] // above the largest pid_max
    [InlineData("copy --from 4194305 --to 1 --range 0x10000+4K", 1, "ESRCH")]
    [InlineData("map 2", 1, "kernel thread")]
    [InlineData("demo /nowhere", 1, "no such file or folder")]
    [InlineData("map", 2, "pvmmap map --help")]
    [InlineData("map x", 2, "is not a process id; ")]
    [InlineData("copy --from 1 --to 2 --range 10-20", 2, "is not a range; ")]
    [InlineData("frobnicate", 2, "pvmmap --help")]
    public void Errors_are_one_line_that_says_what_to_do(string line, int code, string expected) =>
        AssertOneLine(code, expected, Tool.Run($"{line}"));

    [Theory]
    [InlineData("")]
    [InlineData("--small-pages")]
    public void The_demo_arrives_whole_in_each_of_its_ways(string pages)
    {
        JsonElement report = Tool.Json($"demo {Tool.Path} {pages} --json");
        Assert.True(report.GetProperty("passed").GetBoolean(), report.ToString());
        Assert.Equal((ulong)new FileInfo(Tool.Path).Length, report.GetProperty("bytes").GetUInt64());
        Assert.True(report.GetProperty("source_unmapped_by_move").GetBoolean());
        foreach (string way in (string[])["process_vm_writev", "process_vm_mmap", "process_vm_mmap_move"])
        {
            JsonElement run = report.GetProperty(way);
            Assert.True(run.GetProperty("equal").GetBoolean(), way);
            double call = run.GetProperty("call_us").GetDouble(), complete = run.GetProperty("complete_us").GetDouble();
            Assert.InRange(call, 1, complete);
            Assert.InRange(complete, call, run.GetProperty("verified_us").GetDouble());
            Assert.InRange(run.GetProperty("peak_to_data").GetDouble(), 1, 100);
        }
    }

    [Fact]
    public void A_snapshot_is_kept_listed_written_and_released()
    {
        Puppet source = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        JsonElement kept = Tool.Json($"snapshot {source.Pid} --keep --json");
        int keeper = kept.GetProperty("keeper_pid").GetInt32();
        source.Fill(at, Length, 2);

        JsonElement listed = Assert.Single(Snapshots(), row => row.GetProperty("keeper_pid").GetInt32() == keeper);
        Assert.Equal((source.Pid, 0, "puppet"), (listed.GetProperty("pid").GetInt32(), listed.GetProperty("owner_pid").GetInt32(), Text(listed, "name")));
        Assert.InRange(listed.GetProperty("own_bytes").GetUInt64(), Length, Length + 4 * MiB);
        Assert.InRange(listed.GetProperty("age_us").GetInt64(), 1L, 60_000_000L);
        Assert.Contains(Tool.Run($"ps").Output.Split('\n'), line => line.Contains($"{keeper}", StringComparison.Ordinal) && line.Contains("detached", StringComparison.Ordinal));

        Puppet target = NewPuppet();
        ulong address = Number(Tool.Json($"copy --from {keeper} --to {target.Pid} --range 0x{at:x}+16M --json"), "address");
        target.AssertContent(address, Length, 1);

        string core = Path.Combine(Theatre.NewFolder($"kept-{Guid.NewGuid():N}"), "core");
        AssertOneLine(1, "give --range when the snapshot is taken", Tool.Run($"snapshot {keeper} -o {core} --range 0x{at:x}+4K"));
        Assert.Equal(source.Pid, Tool.Json($"snapshot {keeper} -o {core} --json").GetProperty("pid").GetInt32());
        Assert.True(new FileInfo(core).Length > (long)Length);
        Assert.Equal(0, Tool.Run($"snapshot {keeper} --release").Code);
        Assert.DoesNotContain(Snapshots(), row => row.GetProperty("keeper_pid").GetInt32() == keeper);
        AssertOneLine(1, "ESRCH", Tool.Run($"snapshot {keeper} --release"));
        AssertOneLine(1, "pvmmap ps lists them", Tool.Run($"snapshot {source.Pid} --release"));
        source.AssertContent(at, Length, 2);
    }

    private static JsonElement[] Snapshots() => [.. Tool.Json($"ps --json").GetProperty("snapshots").EnumerateArray()];

    private static Duplication? Running(Puppet target)
    {
        IReadOnlyList<Duplication> all = Duplication.Running();
        foreach (Duplication other in all.Where(fill => fill.TargetPid != target.Pid)) other.Dispose();
        return all.FirstOrDefault(fill => fill.TargetPid == target.Pid);
    }

    private static JsonElement[] Fills(Puppet target) =>
        [.. Tool.Json($"ps --json").GetProperty("fills").EnumerateArray().Where(row => row.GetProperty("target_pid").GetInt32() == target.Pid)];

    private static void AssertOneLine(int code, string expected, ToolResult result)
    {
        Assert.Equal((code, ""), (result.Code, result.Output));
        Assert.StartsWith("pvmmap: ", result.Errors, StringComparison.Ordinal);
        Assert.Contains(expected, result.Errors, StringComparison.Ordinal);
        Assert.Equal(result.Errors.Length - 1, result.Errors.IndexOf('\n', StringComparison.Ordinal));
    }

    private static string Text(JsonElement row, string name) => row.GetProperty(name).GetString()!;

    private static ulong Number(JsonElement row, string name) =>
        ulong.Parse(Text(row, name).AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
}
