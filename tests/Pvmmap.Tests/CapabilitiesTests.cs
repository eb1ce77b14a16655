using Xunit;

namespace Pvmmap.Tests;

public sealed class CapabilitiesTests
{
    private static readonly IReadOnlyList<Capability> s_probed = Capabilities.Probe();

    [Fact]
    public void Every_capability_has_a_name_of_its_own_and_says_what_was_found()
    {
        Assert.Equal(s_probed.Count, s_probed.Select(c => c.Name).Distinct().Count());
        Assert.All(s_probed, c => Assert.NotEmpty(c.Detail));
    }

    [Fact]
    public void What_is_missing_has_a_cure_and_what_is_present_has_none() => Assert.All(s_probed, c => Assert.Equal(c.Present, c.Cure is null));

    [Fact]
    public void What_the_tests_themselves_stand_on_is_found() =>
        Assert.All(s_probed.Where(c => c.Name is "architecture" or "/proc" or "pidfd_open"), c => Assert.True(c.Present));

    [Fact]
    public void Probing_leaves_no_descriptor_open()
    {
        Capabilities.Probe();
        int before = Directory.GetFileSystemEntries("/proc/self/fd").Length;
        for (int i = 0; i < 20; i++) Capabilities.Probe();
        // Other tests run beside this one: allow for theirs, not for one in each of twenty rounds.
        Assert.InRange(Directory.GetFileSystemEntries("/proc/self/fd").Length, 0, before + 15);
    }
}
