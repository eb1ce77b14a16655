using System.Text;
using Pvmmap.Procfs;
using Xunit;

namespace Pvmmap.Tests.Procfs;

public class NumaMapsTests
{
    private const string Linux_6_18 = """
        00010000 default anon=1 dirty=1 N0=1 kernelpagesize_kB=4
        7f0000000000 bind:0
        7f0000010000 bind=static:0-1,3 anon=8 dirty=8 N0=8 kernelpagesize_kB=4
        7f0000020000 prefer (many):1 file=/usr/lib/x y mapped=3 N0=3 kernelpagesize_kB=4
        7f0000030000 weighted interleave:0-64 heap
        7f0000040000 local huge
        7f0000050000 interleave=relative:2 stack
        7f0000060000 bind=static|balancing:0
        7f0000070000 bind:0,2,4,6,8,10,12,14,16,18,20,22,24,26,28,30,32,34,36,38,40,
        7f0000080000 something new:0
        7f0000090000 prefer=relative
        """;

    [Fact]
    public void Each_policy_is_read()
    {
        Dictionary<ulong, MemoryPolicy> policies = NumaMaps.Parse(Encoding.UTF8.GetBytes(Linux_6_18));
        Assert.Equal(10, policies.Count);
        Assert.DoesNotContain(0x10000UL, policies.Keys);
        Expect(0x7f0000000000, MemoryPolicy.MPOL_BIND, 1);
        Expect(0x7f0000010000, MemoryPolicy.MPOL_BIND | MemoryPolicy.MPOL_F_STATIC_NODES, 0b1011);
        Expect(0x7f0000020000, MemoryPolicy.MPOL_PREFERRED_MANY, 0b10);
        Expect(0x7f0000030000, MemoryPolicy.WeightedInterleave, ulong.MaxValue, 1);
        Expect(0x7f0000040000, MemoryPolicy.MPOL_LOCAL);
        Expect(0x7f0000050000, MemoryPolicy.MPOL_INTERLEAVE, 0b100);
        Expect(0x7f0000060000, MemoryPolicy.MPOL_BIND | MemoryPolicy.MPOL_F_STATIC_NODES | MemoryPolicy.MPOL_F_NUMA_BALANCING, 1);
        Expect(0x7f0000090000, MemoryPolicy.MPOL_PREFERRED);
        Assert.False(policies[0x7f0000000000].IsUnknown);
        // Cut off by the kernel, and one that is not known: never half of it.
        Assert.True(policies[0x7f0000070000].IsUnknown);
        Assert.True(policies[0x7f0000080000].IsUnknown);

        void Expect(ulong start, uint mode, params ulong[] mask)
        {
            Assert.Equal(mode, policies[start].Mode);
            Assert.Equal(mask, policies[start].Mask());
        }
    }

    [Fact]
    public void A_line_that_is_none_is_refused() => Assert.Throws<FormatException>(() => NumaMaps.Parse("what is this"u8));

    [Fact]
    public void This_process_can_be_read() => Assert.NotNull(NumaMaps.Read(Environment.ProcessId, new PageRange(0, ulong.MaxValue)));
}
