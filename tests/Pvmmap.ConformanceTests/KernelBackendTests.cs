using System.Text.Json;
using Pvmmap.ConformanceTests.Cli;
using Pvmmap.ConformanceTests.Stage;
using Pvmmap.Linux;

namespace Pvmmap.ConformanceTests;

/// <summary>The library and the tool on a kernel that has process_vm_mmap(), with PVMMAP_BACKEND unset or auto: kernel/suite runs them there.</summary>
[Trait("Through", "Kernel")]
public sealed class KernelBackendTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 8 * MiB;

    public static TheoryData<Way, MmapFlags> WaysAndFlags => new MatrixTheoryData<Way, MmapFlags>(
        [Way.Pull, Way.Push], [MmapFlags.None, MmapFlags.Lazy, MmapFlags.Populate, MmapFlags.Move]);

    [Theory]
    [MemberData(nameof(WaysAndFlags))]
    public async Task The_kernel_makes_the_calls_of_source_and_target_and_nothing_is_left_to_follow(Way way, MmapFlags flags)
    {
        RequireSystemCall();
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong at = source.Map(Length);
        source.Fill(at, Length, 1);
        MmapResult result = Call(source, target, at + 5, Length - 5, flags: flags);
        if (!flags.HasFlag(MmapFlags.Move) && source is OwnProcess) UnmapAtEnd(at, Length);
        Assert.Equal(Backend.Kernel, result.Backend);
        Assert.Empty(result.Notes);
        Assert.Equal((result.Address + 5, Length), (result.DataAddress, result.Length));
        Assert.Equal((TimeSpan.Zero, TimeSpan.Zero), (result.SourceStopTime, result.TargetStopTime));
        Duplication fill = result.Duplication;
        Assert.Equal((source.Pid, target.Pid, at, result.Address, Length), (fill.SourcePid, fill.TargetPid, fill.SourceAddress, fill.Address, fill.Length));
        Assert.Equal((DuplicationState.Complete, 0, 0UL), (fill.State, fill.HolderPid, fill.BytesToGo));
        Assert.Equal(flags.HasFlag(MmapFlags.Move), fill.IsMove);
        Assert.True(fill.Wait(TimeSpan.Zero));
        fill.Finish();
        Assert.Equal(DuplicationState.Complete, await fill.Completion);
        target.AssertContent(result.Address, Length, 1);
        if (flags.HasFlag(MmapFlags.Move)) source.AssertTaken(at, Length, 1);
        else source.AssertContent(at, Length, 1);
    }

    [Fact]
    public void Between_two_others_the_library_makes_it_and_says_why()
    {
        RequireSystemCall();
        Puppet source = NewPuppet(), target = NewPuppet();
        MmapResult result = Call(source, target, source.MapFilled(Length, 1), Length);
        Assert.Equal(Backend.UserSpace, result.Backend);
        Assert.Contains("the caller as source or target", Assert.Single(result.Notes), StringComparison.Ordinal);
        AssertCompletes(result);
        target.AssertContent(result.Address, Length, 1);
    }

    [Fact]
    public void What_the_kernel_refuses_the_library_explains()
    {
        RequireSystemCall();
        Puppet source = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        source.Unmap(at + 3 * Page, Page);
        PvmmapException hole = Refused(Errno.EFAULT, source, Own, at, Length);
        Assert.Contains("nothing is mapped", hole.Message, StringComparison.Ordinal);
        PvmmapException flags = Refused(Errno.EINVAL, source, Own, at, Page, flags: MmapFlags.Lazy | MmapFlags.Populate);
        Assert.Contains("LAZY contradicts POPULATE", flags.Message, StringComparison.Ordinal);
        Assert.Equal(source.Pid, hole.Pid);
    }

    [Fact]
    public void Huge_pages_can_be_asked_for_afterwards()
    {
        RequireSystemCall();
        Puppet source = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        MmapResult result = Call(source, Own, at, Length);
        Assert.Equal(Backend.Kernel, result.Backend);
        // pages are shared with the source: those that cannot be joined stay as they are
        Assert.InRange(result.Duplication.UseHugePages(cancellation: TestContext.Current.CancellationToken), 0UL, Length);
        Own.AssertContent(result.Address, Length, 1);
        source.AssertContent(at, Length, 1);
    }

    [Fact]
    public void Doctor_says_who_will_make_the_call()
    {
        RequireSystemCall();
        Puppet puppet = NewPuppet(), other = NewPuppet();
        JsonElement row = Tool.Json($"doctor --json").EnumerateArray().Single(each => each.GetProperty("name").GetString() == "backend");
        Assert.StartsWith("kernel: ", row.GetProperty("detail").GetString(), StringComparison.Ordinal);
        Assert.Equal("shared", Tool.Json($"doctor --from {puppet.Pid} --json").GetProperty("outlook").GetString());
        Assert.Equal("lazy", Tool.Json($"doctor --from {puppet.Pid} --to {other.Pid} --json").GetProperty("outlook").GetString());
        Assert.EndsWith("\nworks: shared by the kernel\n", Tool.Run($"doctor --to {puppet.Pid}").Output, StringComparison.Ordinal);
        Assert.StartsWith("userspace: ", JsonElement.Parse(Tool.RunWith($"{Backends.Variable}=userspace", $"doctor --json").Output).EnumerateArray()
            .Single(each => each.GetProperty("name").GetString() == "backend").GetProperty("detail").GetString(), StringComparison.Ordinal);
        JsonElement refused = JsonElement.Parse(Tool.RunWith($"{Backends.Variable}=kernel", $"doctor --from {puppet.Pid} --to {other.Pid} --json").Output);
        Assert.Equal(("refused", "ENOSYS"), (refused.GetProperty("outlook").GetString(), refused.GetProperty("errno").GetString()));
    }

    [Fact]
    public void Kinds_that_the_kernel_leaves_to_user_space_work_all_the_same()
    {
        RequireSystemCall();
        Puppet source = NewPuppet();
        source.Write(source.Scratch, "shared\0"u8);
        int memfd = (int)source.Must(source.Syscall(Sys.memfd_create, (long)source.Scratch, 0), "memfd_create");
        source.Must(source.Syscall(77, memfd, (long)MiB), "ftruncate");
        ulong at = source.Map(MiB, flags: MapFlags.Shared, fd: memfd);
        source.Fill(at, MiB, 5);
        MmapResult result = Call(source, Own, at, MiB);
        Own.AssertContent(result.Address, MiB, 5);
        source.Fill(at, MiB, 6);
        Own.AssertContent(result.Address, MiB, 6);
        Assert.Equal(result.Backend == Backend.Kernel, result.Notes.Count == 0);
    }

    private static void RequireSystemCall() => Machine.Require(ProcessVmMmap.IsPresent, "this kernel has no process_vm_mmap(): kernel/suite runs it on one that has");
}
