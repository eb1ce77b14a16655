using System.Text.Json;
using Pvmmap.ConformanceTests.Cli;
using Pvmmap.ConformanceTests.Stage;
using Pvmmap.Linux;

namespace Pvmmap.ConformanceTests;

/// <summary>PVMMAP_BACKEND on a kernel that has no process_vm_mmap() of its own: what released kernels are.</summary>
public sealed class BackendTests(Theatre theatre) : Scene(theatre)
{
    [Theory]
    [InlineData(null)]
    [InlineData("auto")]
    [InlineData("userspace")]
    public void The_library_makes_the_call_and_the_result_says_so(string? word)
    {
        RequireNoSystemCall();
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(MiB, 1);
        ToolResult result = RunTool(word, $"copy --from {source.Pid} --to {target.Pid} --range 0x{at:x}+{MiB} --json");
        Assert.True(result.Code == 0, result.Errors);
        JsonElement report = JsonElement.Parse(result.Output);
        Assert.Equal("userspace", report.GetProperty("backend").GetString());
        Assert.Equal(0, report.GetProperty("notes").GetArrayLength());
        target.AssertContent(OlderKernelTests.AddressIn(result), MiB, 1);
        Assert.StartsWith("userspace: ", BackendRow(RunTool(word, $"doctor --json")).GetProperty("detail").GetString(), StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void The_result_of_the_method_says_so_too(Way way)
    {
        RequireNoSystemCall();
        (AddressSpace source, AddressSpace target) = Pair(way);
        MmapResult result = Call(source, target, MapFilled(source, MiB, 1), MiB);
        Assert.Equal(Backend.UserSpace, result.Backend);
        Assert.Empty(result.Notes);
        AssertCompletes(result);
    }

    [Fact]
    public void Where_only_the_kernel_may_the_call_is_ENOSYS_with_the_cure()
    {
        RequireNoSystemCall();
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(MiB, 1);
        ProcessRecord[] before = [ProcessRecord.TakeAtRest(source.Pid), ProcessRecord.TakeAtRest(target.Pid)];
        ToolResult refused = RunTool("kernel", $"copy --from {source.Pid} --to {target.Pid} --range 0x{at:x}+{MiB}");
        string line = AssertOneLine(refused, "ENOSYS");
        Assert.Contains("set PVMMAP_BACKEND to auto or userspace", line, StringComparison.Ordinal);
        foreach (ProcessRecord each in before) each.AssertUnchanged();

        ToolResult doctor = RunTool("kernel", $"doctor --json");
        Assert.Equal(1, doctor.Code);
        JsonElement row = BackendRow(doctor);
        Assert.False(row.GetProperty("present").GetBoolean());
        Assert.Contains("auto or userspace", row.GetProperty("cure").GetString(), StringComparison.Ordinal);
        Assert.Contains("MISSING backend", RunTool("kernel", $"doctor").Output, StringComparison.Ordinal);

        JsonElement foreseen = JsonElement.Parse(RunTool("kernel", $"doctor --from {source.Pid} --to {target.Pid} --json").Output);
        Assert.Equal(("refused", "ENOSYS"), (foreseen.GetProperty("outlook").GetString(), foreseen.GetProperty("errno").GetString()));
        Assert.Contains("auto or userspace", foreseen.GetProperty("cure").GetString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("kernel", Errno.ENOSYS)]
    [InlineData("nonsense", Errno.EINVAL)]
    public void The_C_function_says_it_by_its_errno(string word, Errno expected)
    {
        RequireNoSystemCall();
        Puppet caller = NewPuppet("env", $"{Backends.Variable}={word}").LoadLibrary(tryOut: false), other = NewPuppet();
        ulong own = caller.MapFilled(MiB, 1), theirs = other.MapFilled(MiB, 2);
        ProcessRecord before = ProcessRecord.TakeAtRest(other.Pid);
        for (int round = 0; round < 3; round++)
        {
            Assert.Equal((-1L, expected), caller.Call(other.Pid, theirs, MiB));
            Assert.Equal((-1L, expected), caller.Call(-other.Pid, own, MiB));
        }
        before.AssertUnchanged();
    }

    [Fact]
    public void A_word_that_is_none_is_refused_in_one_line_that_names_the_three()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(MiB, 1);
        foreach (ToolResult refused in (ToolResult[])[
            RunTool("nonsense", $"copy --from {source.Pid} --to {target.Pid} --range 0x{at:x}+{MiB}"), RunTool("nonsense", $"doctor"),
            RunTool("nonsense", $"doctor --from {source.Pid} --to {target.Pid}")])
        {
            string line = AssertOneLine(refused, "EINVAL");
            Assert.Contains("'nonsense' is no backend; unset it, or set it to auto, kernel or userspace", line, StringComparison.Ordinal);
        }
    }

    private static void RequireNoSystemCall() => Machine.Require(!ProcessVmMmap.IsPresent, "this kernel has process_vm_mmap()");

    private static string AssertOneLine(ToolResult refused, string errno)
    {
        Assert.Equal(1, refused.Code);
        Assert.Empty(refused.Output);
        string line = Assert.Single(refused.Errors.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        Assert.Contains(errno, line, StringComparison.Ordinal);
        Assert.Contains(Backends.Variable, line, StringComparison.Ordinal);
        return line;
    }

    private static JsonElement BackendRow(ToolResult doctor) =>
        JsonElement.Parse(doctor.Output).EnumerateArray().Single(row => row.GetProperty("name").GetString() == "backend");

    private static ToolResult RunTool(string? word, FormattableString line) => word is null ? Tool.Run(line) : Tool.RunWith($"{Backends.Variable}={word}", line);
}
