using System.Text;

namespace Pvmmap.Cli;

/// <summary>A table of plain text: a heading, then a line for each row, columns as wide as they need, nothing cut and no trailing blanks.</summary>
/// <param name="headings">A heading that starts with '&gt;' (not shown) aligns its column to the right.</param>
internal sealed class Listing(params string[] headings)
{
    private const string Gap = "  ";

    private readonly List<string[]> _rows = [[.. headings.Select(h => h.TrimStart('>'))]];

    public void Add(params string[] row) => _rows.Add(row);

    public override string ToString()
    {
        int[] widths = [.. headings.Select((_, column) => _rows.Max(row => row[column].Length))];
        var text = new StringBuilder();
        foreach (string[] row in _rows)
        {
            var line = new StringBuilder();
            for (int column = 0; column < row.Length; column++)
            {
                if (column > 0) line.Append(Gap);
                line.Append(headings[column].StartsWith('>') ? row[column].PadLeft(widths[column]) : row[column].PadRight(widths[column]));
            }

            text.Append(line.ToString().TrimEnd()).Append('\n');
        }

        return text.ToString();
    }
}
