using System.Text;
using Pvmmap.Cli;
using Spectre.Console;

namespace Pvmmap.Bench;

/// <summary>A report for people: tables on the terminal, the same tables in Markdown.</summary>
internal static class Rendering
{
    private static readonly string[] s_series = ["data", "way", "measured", ">p50", ">min", ">max", ">rounds"];
    private static readonly string[] s_amounts = ["data", "way", "counted", ">p50", ">min", ">max", ">rounds"];
    private static readonly string[] s_findings = ["figure", ">measured", ">wanted", ""];

    public static void Write(BenchReport report, IAnsiConsole console)
    {
        console.WriteLine($"{report.Name}: {report.Description}");
        console.WriteLine($"{report.Machine}");
        console.Write(Table(s_series, Times(report)));
        if (report.Amounts is { Count: > 0 }) console.Write(Table(s_amounts, Counted(report)));
        if (report.Findings.Count > 0) console.Write(Table(s_findings, Figured(report)));
        foreach (string note in report.Notes) console.WriteLine($"Note: {note}");
    }

    public static string Markdown(BenchReport report)
    {
        var text = new StringBuilder();
        text.Append($"# {report.Name}: {report.Description}\n\n");
        text.Append($"Written by `./bench {report.Name}` on {report.Date:yyyy-MM-dd}. {report.Machine}.\n\n");
        Append(text, s_series, Times(report));
        if (report.Amounts is { Count: > 0 })
        {
            text.Append('\n');
            Append(text, s_amounts, Counted(report));
        }

        if (report.Findings.Count > 0)
        {
            text.Append('\n');
            Append(text, s_findings, Figured(report));
        }

        foreach (string note in report.Notes) text.Append($"\n{note}\n");
        return text.ToString();
    }

    private static IEnumerable<string[]> Times(BenchReport report) => report.Series.Select(series => (string[])
    [
        series.Data, series.Way, series.Measured, Time(series.Time.P50), Time(series.Time.Minimum), Time(series.Time.Maximum), $"{series.Time.Rounds}",
    ]);

    private static IEnumerable<string[]> Counted(BenchReport report) => (report.Amounts ?? []).Select(amount => (string[])
    [
        amount.Data, amount.Way, amount.Measured, amount.Unit.Text(amount.Value.P50), amount.Unit.Text(amount.Value.Minimum),
        amount.Unit.Text(amount.Value.Maximum), $"{amount.Value.Rounds}",
    ]);

    private static IEnumerable<string[]> Figured(BenchReport report) => report.Findings.Select(finding => (string[])
        [finding.What, finding.Measured, finding.Wanted, finding.Met switch { true => "met", false => "MISSED", null => "" }]);

    private static Table Table(string[] headings, IEnumerable<string[]> rows)
    {
        Table table = new Table().Border(TableBorder.Rounded);
        foreach (string heading in headings)
        {
            var column = new TableColumn(heading.TrimStart('>'));
            table.AddColumn(heading.StartsWith('>') ? column.RightAligned() : column);
        }

        foreach (string[] row in rows) table.AddRow([.. row.Select(cell => new Text(cell))]);
        return table;
    }

    internal static void Append(StringBuilder text, string[] headings, IEnumerable<string[]> rows)
    {
        void Line(IEnumerable<string> cells) => text.Append($"| {string.Join(" | ", cells)} |\n");
        Line(headings.Select(heading => heading.TrimStart('>')));
        Line(headings.Select(heading => heading.StartsWith('>') ? "---:" : "---"));
        foreach (string[] row in rows) Line(row);
    }

    internal static string Time(double microseconds) => Figures.Duration(TimeSpan.FromMicroseconds(microseconds));
}
