using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace Pvmmap.Bench;

/// <summary>
/// The parts of README.md that are made from the stored results: each between &lt;!-- results: NAME PART --&gt; and &lt;!-- /results --&gt;. PART is <c>figures</c>
/// (those whose text has one of the words that follow), <c>times</c> (the series whose measured part is one of the texts that follow), <c>amounts</c>
/// likewise, or <c>machine</c>. Words and texts stand in quotes.
/// </summary>
internal static partial class ReadmeText
{
    /// <param name="text">The document.</param>
    /// <param name="results">Where NAME.json are.</param>
    /// <returns>The document with every part made anew.</returns>
    /// <exception cref="InvalidDataException">A part names results that are not there, or is not understood.</exception>
    public static string Rewrite(string text, DirectoryInfo results) => Part().Replace(text, match =>
    {
        string name = match.Groups["name"].Value, part = match.Groups["part"].Value;
        BenchReport report = ResultFiles.Read(name, results) ?? throw new InvalidDataException($"README: there are no results of {name}; run ./bench {name}");
        string[] wanted = [.. Quoted().Matches(match.Groups["wanted"].Value).Select(one => one.Groups[1].Value)];
        string made = part switch
        {
            "machine" => $"On {report.Date.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture)}: {report.Machine}.\n",
            "times" => Times(report, wanted),
            "amounts" => Amounts(report, wanted),
            "figures" => Figured(report, wanted),
            _ => throw new InvalidDataException($"README: '{part}' is no part of results"),
        };
        return $"{match.Groups["open"].Value}\n{made}{match.Groups["close"].Value}";
    });

    private static string Times(BenchReport report, string[] wanted)
    {
        Series[] series = [.. report.Series.Where(one => IsWanted(wanted, one.Data, one.Measured))];
        return Lines(["data", "way", "measured", ">median", ">least", ">most"], series.Select(one => (string[])
            [one.Data, one.Way, one.Measured, Rendering.Time(one.Time.P50), Rendering.Time(one.Time.Minimum), Rendering.Time(one.Time.Maximum)]), report, wanted);
    }

    private static string Amounts(BenchReport report, string[] wanted)
    {
        Amount[] amounts = [.. (report.Amounts ?? []).Where(one => IsWanted(wanted, one.Data, one.Measured))];
        return Lines(["data", "way", "counted", ">median", ">least", ">most"], amounts.Select(one => (string[])
            [one.Data, one.Way, one.Measured, one.Unit.Text(one.Value.P50), one.Unit.Text(one.Value.Minimum), one.Unit.Text(one.Value.Maximum)]), report, wanted);
    }

    private static string Figured(BenchReport report, string[] wanted)
    {
        Finding[] findings = [.. report.Findings.Where(one => wanted.Length == 0 || wanted.Any(word => one.What.Contains(word, StringComparison.Ordinal)))];
        return Lines(["figure", ">measured", ">wanted", ""], findings.Select(one => (string[])
            [one.What, one.Measured, one.Wanted, one.Met switch { true => "met", false => "missed", null => "" }]), report, wanted);
    }

    // "64 MiB in 4 KiB pages: call", or only "call".
    private static bool IsWanted(string[] wanted, string data, string measured) =>
        wanted.Length == 0 || wanted.Contains(measured) || wanted.Contains($"{data}: {measured}");

    private static string Lines(string[] headings, IEnumerable<string[]> rows, BenchReport report, string[] wanted)
    {
        string[][] all = [.. rows];
        if (all.Length == 0) throw new InvalidDataException($"README: the results of {report.Name} have nothing of {string.Join(", ", wanted)}");
        var text = new StringBuilder();
        Rendering.Append(text, headings, all);
        return text.ToString();
    }

    [GeneratedRegex("""(?<open><!-- results: (?<name>[\w-]+) (?<part>\w+)(?<wanted>(?: "[^"]*")*) -->)\n.*?(?<close><!-- /results -->)""", RegexOptions.Singleline)]
    private static partial Regex Part();

    [GeneratedRegex("\"([^\"]*)\"")]
    private static partial Regex Quoted();
}
