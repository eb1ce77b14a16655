using Pvmmap.Holder;
using Xunit;

namespace Pvmmap.Tests;

/// <summary>docs/survival.md, which ./test --full writes, is of the code as it is: all of its steps, and nothing bad at any.</summary>
public sealed class SurvivalDocumentTests
{
    private const string Bad = "BAD";
    private const int Tables = 6;

    private static readonly string[] s_steps = [.. Enum.GetNames<CallStep>().Skip(1), .. Enum.GetNames<FillStep>().Skip(1)];

    private static readonly string[] s_lines = File.ReadAllLines(Path.Combine(AppContext.BaseDirectory, "docs", "survival.md"));

    private static readonly string[][] s_rows = [.. s_lines.Where(line => line.StartsWith("| ", StringComparison.Ordinal))
        .Select(line => line.Split('|')[1..^1].Select(cell => cell.Trim()).ToArray())];

    /// <summary>The rows of the matrix have more cells than the step and its meaning.</summary>
    private static readonly string[][] s_matrix = [.. s_rows.Where(row => row.Length > 2 && row[0] != "step")];

    [Fact]
    public void It_explains_exactly_the_steps_that_the_code_has() =>
        Assert.Equal(s_steps, s_rows.Where(row => row.Length == 2 && char.IsAsciiLetterUpper(row[0][0])).Select(row => row[0]));

    [Fact]
    public void Each_step_stands_in_the_matrix_and_no_other() =>
        Assert.Equal(s_steps.Order(StringComparer.Ordinal), s_matrix.Select(row => row[0]).Distinct().Order(StringComparer.Ordinal));

    [Fact]
    public void It_has_every_way_of_copy_and_move()
    {
        Assert.Equal(Tables, s_lines.Count(line => line.StartsWith("## Copy, ", StringComparison.Ordinal) || line.StartsWith("## Move, ", StringComparison.Ordinal)));
        Assert.True(s_matrix.Length > Tables * s_steps.Length / 2, $"only {s_matrix.Length} rows");
    }

    [Fact]
    public void No_cell_is_empty_or_bad()
    {
        string[] wrong = [.. s_matrix.Where(row => row.Any(cell => cell.Length == 0 || cell.StartsWith(Bad, StringComparison.Ordinal))).Select(row => string.Join(" | ", row))];
        Assert.True(wrong.Length == 0, string.Join('\n', wrong));
    }
}
