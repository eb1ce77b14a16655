using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>The NUMA policies of the source's mappings (mbind(2)) are those of the target's; what its tasks have set for themselves (set_mempolicy(2)) is their own business.</summary>
public sealed class MemoryPolicyTests(Theatre theatre) : Scene(theatre)
{
    private const long Default = 0, Preferred = 1, Bind = 2, Interleave = 3, Local = 4, StaticNodes = 1 << 15;
    private const ulong Length = 8 * Page;

    public static TheoryData<Mode, Way, MmapFlags> Calls => new MatrixTheoryData<Mode, Way, MmapFlags>(
        [Mode.Copy, Mode.Move], Enum.GetValues<Way>(), [MmapFlags.None, MmapFlags.Populate]);

    [Theory]
    [MemberData(nameof(Calls))]
    public void Each_mapping_keeps_its_policy(Mode mode, Way way, MmapFlags fill)
    {
        RequirePolicies();
        (AddressSpace source, AddressSpace target) = Pair(way);
        long[] modes = [Default, Bind, Interleave, Preferred, Local, Bind | StaticNodes, Default];
        ulong length = (ulong)modes.Length * Length, at = MapFilled(source, length, 1);
        for (int i = 0; i < modes.Length; i++) SetPolicy(source, at + (ulong)i * Length, modes[i]);
        string[] expected = ["default", "bind:0", "interleave:0", "prefer:0", "local", "bind=static:0", "default"];
        Assert.Equal(expected, Policies(source.Pid, at, length));
        // Of the task: it stands in numa_maps for each mapping without a policy, but is not one of theirs.
        if (source is Puppet puppet) puppet.Must(puppet.Syscall(Sys.set_mempolicy, Interleave, NodeZero(puppet), 2), "set_mempolicy");
        MmapResult result = Call(source, target, at, length, flags: mode.Flag() | fill);
        Assert.Equal(expected, Policies(target.Pid, result.Address, length));
        AssertCompletes(result);
        Assert.Equal(expected, Policies(target.Pid, result.Address, length));
        Assert.DoesNotContain(result.Notes, note => note.Contains("policy", StringComparison.Ordinal));
        target.AssertContent(result.Address, length, 1);
    }

    [Fact]
    public void What_is_private_of_a_file_keeps_it_too_and_a_destination_that_had_another_is_replaced()
    {
        RequirePolicies();
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(4 * Length, 1), place = target.MapFilled(4 * Length, 2);
        ulong scratch = source.Scratch;
        source.Write(scratch, "file\0"u8);
        int file = (int)source.Must(source.Syscall(Sys.memfd_create, (long)scratch, 0), "memfd_create");
        source.Must(source.Syscall(Sys.write, file, (long)at, (long)Length), "write");
        source.Map(Length, Prot.ReadWrite, MapFlags.Fixed, at + Length, file);
        SetPolicy(source, at + Length, Interleave);
        SetPolicy(target, place, Bind);
        MmapResult result = Call(source, target, at, 4 * Length, place, MmapFlags.Fixed);
        AssertCompletes(result);
        Assert.Equal(["default", "interleave:0", "default", "default"], Policies(target.Pid, place, 4 * Length));
        target.AssertContent(place, Length, 1);
        target.AssertContent(place + Length, Length, 1);
        target.AssertContent(place + 2 * Length, 2 * Length, 1, 2 * Length / Page);
    }

    [Fact]
    public void Of_a_source_under_seccomp_it_is_carried_by_the_plain_copy()
    {
        RequirePolicies();
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(2 * Length, 1);
        SetPolicy(source, at + Length, Bind);
        Seccomp.Watch(source);
        MmapResult result = Call(source, target, at, 2 * Length);
        Assert.Equal(["default", "bind:0"], Policies(target.Pid, result.Address, 2 * Length));
        target.AssertContent(result.Address, 2 * Length, 1);
    }

    private static void RequirePolicies() => Machine.Require(File.Exists("/proc/self/numa_maps"), "this kernel has no memory policies (CONFIG_NUMA)");

    private static void SetPolicy(AddressSpace space, ulong address, long mode)
    {
        if (mode == Default) return;
        bool nodes = mode != Local;
        space.Must(space.Syscall(Sys.mbind, (long)address, (long)Length, mode, nodes ? NodeZero(space) : 0, nodes ? 2 : 0, 0), "mbind");
    }

    private static long NodeZero(AddressSpace space)
    {
        ulong at = space.Map(Page);
        space.Write(at, BitConverter.GetBytes(1UL));
        return (long)at;
    }

    /// <summary>Of the mapping that each <see cref="Length"/> bytes of the range lie in; it may begin before.</summary>
    private static string[] Policies(int pid, ulong address, ulong length)
    {
        (ulong Start, string Policy)[] all = [.. File.ReadLines($"/proc/{pid}/numa_maps").Select(line => line.Split(' ', 3)).Select(words => (Convert.ToUInt64(words[0], 16), words[1]))];
        return [.. Enumerable.Range(0, (int)(length / Length)).Select(i => all.Last(vma => vma.Start <= address + (ulong)i * Length).Policy)];
    }
}
