using Pvmmap.Remote;
using Xunit;

namespace Pvmmap.Tests.Remote;

/// <summary>The table of Documentation/admin-guide/LSM/Yama.rst, level by level.</summary>
public sealed class YamaTests
{
    public static TheoryData<int?, char> Everything => new MatrixTheoryData<int?, char>([null, 0, 1, 2, 3, 4], "sanSAN");

    // Who gets through: strangers, ancestors and those named, in capitals if they have the capability.
    private static string Allowed(int? scope) => scope switch
    {
        null or 0 => "sanSAN",
        1 => "anSAN",
        2 => "SAN",
        _ => "",
    };

    [Theory]
    [MemberData(nameof(Everything))]
    public void Who_may_trace_whom(int? scope, char who)
    {
        TracerRelation relation = char.ToLowerInvariant(who) switch { 's' => TracerRelation.Stranger, 'a' => TracerRelation.Ancestor, _ => TracerRelation.Named };
        Assert.Equal(Allowed(scope).Contains(who, StringComparison.Ordinal), Yama.Allows(scope, relation, capable: char.IsAsciiLetterUpper(who)));
    }

    [Theory]
    [InlineData(1, "PR_SET_PTRACER")]
    [InlineData(2, "CAP_SYS_PTRACE")]
    [InlineData(3, "restart the machine")]
    public void Each_level_has_its_cure(int scope, string expected) => Assert.Contains(expected, Yama.Cure(scope), StringComparison.Ordinal);

    [Theory]
    [InlineData(1, false)]
    [InlineData(2, false)]
    [InlineData(3, true)]
    public void The_capability_cures_all_levels_but_the_last(int scope, bool stillRefused)
    {
        Assert.NotEqual(stillRefused, Yama.Allows(scope, TracerRelation.Stranger, capable: true));
        Assert.Equal(stillRefused, !Yama.Cure(scope).Contains("CAP_SYS_PTRACE", StringComparison.Ordinal));
    }
}
