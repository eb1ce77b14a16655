using Pvmmap.Procfs;
using Xunit;

namespace Pvmmap.Tests.Procfs;

public class CgroupMembershipTests
{
    private const string Mounts =
        "30 20 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw\n"
        + "31 20 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:6 - cgroup cgroup rw,cpu,cpuacct\n"
        + "32 20 0:28 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        + "33 20 0:29 / /proc rw - proc proc rw\n";

    [Theory]
    [InlineData("0::/system.slice/a.service", "/sys/fs/cgroup/unified/system.slice/a.service")]
    [InlineData("0::/", "/sys/fs/cgroup/unified/")]
    [InlineData("4:cpu,cpuacct:/x", "/sys/fs/cgroup/cpu,cpuacct/x")]
    [InlineData("5:memory:/docker/abc/inner", "/sys/fs/cgroup/memory/inner")]
    [InlineData("5:memory:/docker/abc", "/sys/fs/cgroup/memory")]
    [InlineData("5:memory:/docker/abcdef", null)] // another container's, not below this mount
    [InlineData("6:pids:/x", null)] // mounted nowhere
    [InlineData("1:name=systemd:/x", null)]
    [InlineData("nonsense", null)]
    public void A_hierarchy_is_found_by_its_controllers_and_its_root(string line, string? expected) =>
        Assert.Equal(expected, CgroupMembership.DirectoryOf(line, Mounts));
}
