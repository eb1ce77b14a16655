using System.Text.Json;
using Pvmmap.ConformanceTests.Cli;
using Pvmmap.ConformanceTests.Stage;
using Pvmmap.Linux;

namespace Pvmmap.ConformanceTests;

/// <summary>What newer kernels have is taken away by PVMMAP_WITHOUT: piece by piece, and all at once.</summary>
public sealed class OlderKernelTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 8 * MiB;
    private const int Nobody = 65534;

    // Without them every page is in place when the call returns, and the rest is not asked for.
    private static readonly string[] s_fillingBehindTheCall = ["userfaultfd", "event_fork"];

    private static readonly string[] s_names = [.. KernelFeatures.All.Select(feature => feature.Name)];

    public static IReadOnlyList<string> Lacks { get; } = [.. s_names, string.Join(',', s_names), string.Join(',', s_names.Except(s_fillingBehindTheCall))];

    public static TheoryData<string> EachLack => [.. Lacks];

    public static TheoryData<Mode, string> ModesAndLacks => new MatrixTheoryData<Mode, string>(Modes.All, Lacks);

    public static TheoryData<Mode, Way, string> ModesWaysAndLacks => new MatrixTheoryData<Mode, Way, string>(Modes.All, Enum.GetValues<Way>(), Lacks);

    [Theory]
    [MemberData(nameof(ModesWaysAndLacks))]
    public void The_content_arrives_and_nothing_else_changes(Mode mode, Way way, string without)
    {
        Puppet source = NewCaller(way == Way.Push, without), target = NewCaller(way == Way.Pull, without);
        var attempt = new Attempt(mode, way, source, target, Length, fix: true, attempt => Call(attempt, without));
        Assert.Equal(Errno.None, attempt.Make(refusal: Errno.None));
    }

    [Theory]
    [MemberData(nameof(ModesAndLacks))]
    public void The_source_is_killed_and_a_child_of_the_target_has_it_all(Mode mode, string without)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1), region = CallByTool(mode, source, target, at, Length, without, "--lazy");
        target.AssertContent(region, MiB, 1);
        Puppet child = ForkOf(target);
        source.Kill();
        child.AssertContent(region, Length, 1);
        target.AssertContent(region, Length, 1);
    }

    [Theory]
    [MemberData(nameof(ModesAndLacks))]
    public void The_holder_is_killed_and_there_are_no_zeros(Mode mode, string without)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1), region = CallByTool(mode, source, target, at, Length, without, "--lazy");
        target.AssertContent(region, MiB, 1);
        string[] lacks = without.Split(',');
        using Duplication? fill = FillOf(target);
        if (fill is null)
        {
            Assert.NotEmpty(lacks.Intersect(s_fillingBehindTheCall));
            target.AssertContent(region, Length, 1);
            return;
        }
        Libc.Kill(fill.HolderPid, Libc.SIGKILL);
        if (mode == Mode.Move)
        {
            // the guardian takes its place
            target.AssertContent(region, Length, 1);
            return;
        }
        if (lacks.Contains("poison"))
        {
            Eventually.Holds(() => fill.State == DuplicationState.Lost, "the guardian has seen it");
            target.Post($"verify {region + 2 * MiB} {Page} 1 {2 * MiB / Page} 1");
            Eventually.Equals("handle_userfault", () => File.ReadAllText($"/proc/{target.Pid}/wchan"), "the target waits at the missing page");
            Assert.True(Leftovers.IsOurs(fill.GuardianPid) || fill.GuardianPid == 0, Describe(fill));
            return;
        }
        AssertEnds(fill, DuplicationState.Lost);
        target.AssertContent(region, MiB, 1);
        Census rest = target.Examine(region + 2 * MiB, Length - 2 * MiB, 1, 2 * MiB / Page);
        Assert.True(rest is { Zero: 0, Wrong: 0, SigBus: > 0 }, rest.ToString());
    }

    [Theory]
    [MemberData(nameof(ModesAndLacks))]
    public void Between_processes_without_privileges(Mode mode, string without)
    {
        Puppet source = NewPuppetOf(Nobody), target = NewPuppetOf(Nobody);
        var attempt = new Attempt(mode, Way.ThirdParty, source, target, Length, fix: true, attempt => Call(attempt, without));
        Assert.Equal(Errno.None, attempt.Make(refusal: Errno.None));
    }

    [Theory]
    [MemberData(nameof(EachLack))]
    public void A_full_descriptor_table_is_no_obstacle_to_the_source(string without)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(MiB, 1);
        source.Limit(Rlimit.Files, 64);
        while (source.Syscall(Sys.dup, 0) >= 0)
        {
        }
        ProcessRecord before = ProcessRecord.TakeAtRest(source.Pid);
        ulong region = CallByTool(Mode.Copy, source, target, at, MiB, without);
        target.AssertContent(region, MiB, 1);
        before.AssertUnchanged();
    }

    [Fact]
    public void Descriptors_of_every_number_are_closed_in_a_holder()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(MiB, 1);
        source.Limit(Rlimit.Files, 10_000);
        foreach (int number in (int[])[70, 1000, 9_999]) source.Must(source.Syscall(Sys.dup3, 0, number, 0), "dup3");
        CallByTool(Mode.Copy, source, target, at, MiB, "close_range", "--lazy");
        using Duplication fill = FillOf(target)!;
        foreach (int pid in (int[])[fill.HolderPid, fill.GuardianPid, fill.SentinelPid])
        {
            int[] open = [.. Directory.EnumerateFileSystemEntries($"/proc/{pid}/fd").Select(link => int.Parse(Path.GetFileName(link), null))];
            Assert.True(open.Max() < 16, $"{ProcessStatus.Name(pid)} has {string.Join(' ', open)}");
        }
    }

    [Fact]
    public void An_opened_file_is_had_by_its_descriptor_without_map_files_and_pidfd_getfd()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        source.Write(source.Scratch, "open\0"u8);
        int memfd = (int)source.Must(source.Syscall(Sys.memfd_create, (long)source.Scratch, 0), "memfd_create");
        source.Must(source.Syscall(77, memfd, (long)MiB), "ftruncate");
        ulong open = source.Map(MiB, flags: MapFlags.Shared, fd: memfd), nameless = source.Map(MiB, flags: MapFlags.Shared);
        source.Fill(open, MiB, 5);
        ulong region = CallByTool(Mode.Copy, source, target, open, MiB, "map_files,pidfd_getfd");
        source.Fill(open, MiB, 6);
        target.AssertContent(region, MiB, 6);
        ToolResult refused = Tool.RunWithout("map_files", $"copy --from {source.Pid} --to {target.Pid} --range 0x{nameless:x}+{MiB}");
        Assert.Equal(1, refused.Code);
        Assert.Contains("EPERM", refused.Errors, StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(EachLack))]
    public void Doctor_says_what_is_taken_away_and_by_what(string without)
    {
        ToolResult doctor = Tool.RunWithout(without, $"doctor --json");
        Assert.True(doctor.Code == 0, doctor.Output + doctor.Errors);
        JsonElement[] rows = [.. JsonElement.Parse(doctor.Output).EnumerateArray()];
        foreach (KernelFeatures.Entry feature in KernelFeatures.All)
        {
            bool taken = without.Split(',').Contains(feature.Name);
            JsonElement[] named = [.. rows.Where(row => row.GetProperty("name").GetString() == feature.Title)];
            Assert.True(named.Length == 1 || (named.Length == 0 && !taken), feature.Name);
            if (named.Length == 0) continue;
            bool says = named[0].GetProperty("detail").GetString()!.Contains(KernelFeatures.Variable, StringComparison.Ordinal);
            Assert.Equal(taken, says);
            if (taken) Assert.False(named[0].GetProperty("present").GetBoolean());
        }
    }

    [Fact]
    public void An_unknown_name_is_refused_in_one_line_that_lists_the_known_ones()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(MiB, 1);
        ToolResult result = Tool.RunWithout("poison,nonsense", $"copy --from {source.Pid} --to {target.Pid} --range 0x{at:x}+{MiB}");
        Assert.Equal(1, result.Code);
        string line = Assert.Single(result.Errors.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        Assert.Contains("'nonsense'", line, StringComparison.Ordinal);
        Assert.All(KernelFeatures.All, feature => Assert.Contains(feature.Name, line, StringComparison.Ordinal));
    }

    private Puppet NewCaller(bool calls, string without) => calls ? NewPuppet("env", $"{KernelFeatures.Variable}={without}").LoadLibrary() : NewPuppet();

    private static (ulong Address, Errno Errno) Call(Attempt attempt, string without)
    {
        if (attempt.Way == Way.ThirdParty)
            return (CallByTool(attempt.Mode, attempt.Source, attempt.Target, attempt.At, attempt.Length, without, $"--fixed --at 0x{attempt.Place:x}"), Errno.None);
        (long address, Errno errno) = attempt.Way == Way.Pull
            ? attempt.Target.Call(attempt.Source.Pid, attempt.At, attempt.Length, attempt.Place, attempt.Flags)
            : attempt.Source.Call(-attempt.Target.Pid, attempt.At, attempt.Length, attempt.Place, attempt.Flags);
        return ((ulong)address, errno);
    }

    private static ulong CallByTool(Mode mode, AddressSpace source, AddressSpace target, ulong at, ulong length, string without, string more = "") =>
        AddressIn(RunTool(mode, source, target, at, length, without, more));

    /// <summary>A call that the tool makes.</summary>
    internal static ToolResult RunTool(Mode mode, AddressSpace source, AddressSpace target, ulong at, ulong length, string without, string more = "")
    {
        string command = mode == Mode.Move ? "move" : "copy";
        return Tool.RunWithout(without, $"{command} --from {source.Pid} --to {target.Pid} --range 0x{at:x}+{length} {more} --json");
    }

    /// <summary>Where it says that it has put the range.</summary>
    internal static ulong AddressIn(ToolResult result)
    {
        Assert.True(result.Code == 0, result.Errors);
        string address = JsonElement.Parse(result.Output).GetProperty("address").GetString()!;
        return Convert.ToUInt64(address, 16);
    }

    // A holder that is just ending has nothing left to give.
    private static Duplication? FillOf(Puppet target)
    {
        Duplication? found = null;
        foreach (Duplication fill in Duplication.Running())
        {
            if (fill.TargetPid == target.Pid && fill.State != DuplicationState.Complete) found = fill;
            else fill.Dispose();
        }
        return found;
    }
}
