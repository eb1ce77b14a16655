using System.Text.RegularExpressions;
using Pvmmap.Bench;
using Xunit;

namespace Pvmmap.Tests.Bench;

/// <summary>README.md has the numbers of the stored results, and no others.</summary>
public sealed partial class ReadmeTextTests
{
    private static readonly DirectoryInfo s_results = new(Path.Combine(AppContext.BaseDirectory, "results"));

    private static readonly string s_readme = File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "docs", "README.md"));

    public static TheoryData<string> Stored => [.. s_results.GetFiles("*.json").Select(file => Path.GetFileNameWithoutExtension(file.Name))];

    [Fact]
    public void It_is_what_the_command_makes_of_the_stored_results()
    {
        string[] stored = ReadmeText.Rewrite(s_readme, s_results).Split('\n');
        string? other = s_readme.Split('\n').Except(stored).FirstOrDefault();
        Assert.True(other is null, $"README.md has figures that are not those in benchmarks/results (./bench --readme puts those in): {other}");
        Assert.Equal(string.Join('\n', stored), s_readme);
    }

    [Fact]
    public void A_number_that_was_changed_by_hand_is_found()
    {
        Match number = NumberInAPart().Match(s_readme);
        Assert.True(number.Success, "no part of it comes from the results");
        string changed = s_readme.Insert(number.Groups[1].Index, "9");
        Assert.Equal(ReadmeText.Rewrite(s_readme, s_results), ReadmeText.Rewrite(changed, s_results));
    }

    [Theory]
    [InlineData("<!-- results: nothing figures -->\n<!-- /results -->")]
    [InlineData("<!-- results: move something -->\n<!-- /results -->")]
    [InlineData("<!-- results: move figures \"no such figure\" -->\n<!-- /results -->")]
    public void A_part_that_cannot_be_made_is_an_error(string text) => Assert.Throws<InvalidDataException>(() => ReadmeText.Rewrite(text, s_results));

    [Fact]
    public void Every_chart_in_it_is_stored()
    {
        string[] charts = [.. Chart().Matches(s_readme).Select(match => match.Groups[1].Value)];
        Assert.NotEmpty(charts);
        Assert.All(charts, chart => Assert.True(File.Exists(Path.Combine(s_results.FullName, chart)), $"{chart} is not there"));
    }

    [Theory]
    [MemberData(nameof(Stored))]
    public void The_tables_are_those_of_the_stored_figures(string name) => Assert.Equal(
        Rendering.Markdown(ResultFiles.Read(name, s_results)!), File.ReadAllText(Path.Combine(s_results.FullName, $"{name}.md")));

    [GeneratedRegex(@"<!-- results: [^\n]* -->\n(?:[^<]*?\D)?(\d)")]
    private static partial Regex NumberInAPart();

    [GeneratedRegex(@"\(benchmarks/results/([\w-]+\.svg)\)")]
    private static partial Regex Chart();
}
