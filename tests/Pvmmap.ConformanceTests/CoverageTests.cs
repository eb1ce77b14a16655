using System.Text.RegularExpressions;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>docs/contract-coverage.md and docs/permissions.md name tests that exist.</summary>
public sealed partial class CoverageTests
{
    [Theory]
    [InlineData("docs/contract-coverage.md", 60)]
    [InlineData("docs/permissions.md", 15)]
    public void Each_test_named_in_the_table_exists(string document, int least)
    {
        string text = File.ReadAllText(Path.Combine(Theatre.RepositoryRoot, document));
        string[] named = [.. TestName().Matches(text).Select(match => match.Groups[1].Value).Distinct()];
        Assert.True(named.Length > least, $"only {named.Length} tests are named");
        Assert.All(named, name => Assert.True(Exists(name), $"{name} is not a test"));
    }

    private static bool Exists(string name)
    {
        string[] parts = name.Split('.');
        return typeof(CoverageTests).Assembly.GetType($"{typeof(CoverageTests).Namespace}.{parts[0]}")?.GetMethod(parts[1]) is not null;
    }

    [GeneratedRegex(@"`(\w+Tests\.\w+)`")]
    private static partial Regex TestName();
}
