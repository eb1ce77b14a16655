using System.Text.RegularExpressions;
using ScottPlot;

namespace Pvmmap.Bench.Charts;

/// <summary>One picture made from the results of one benchmark.</summary>
/// <param name="Benchmark">Whose results.</param>
/// <param name="File">Name of the picture, without .svg.</param>
/// <param name="Title">Above it.</param>
internal abstract partial record Chart(string Benchmark, string File, string Title)
{
    protected const int Width = 800;

    public static IReadOnlyList<Chart> All =>
    [
        new BarChart("copy", "copy", "64 MiB in 4 KiB pages, until the call returns", series => series is { Data: "64 MiB in 4 KiB pages", Measured: "call" }),
        new BarChart("copy", "copy-huge", "64 MiB in huge pages, until the call returns", series => series is { Data: "64 MiB in huge pages", Measured: "call" }),
        new BarChart("copy", "faults", "One access to a page that is not there yet, median, handler on the same processor",
            series => series.Measured.EndsWith("handler on the same processor, p50", StringComparison.Ordinal), series => $"{series.Way}, {series.Measured.Split(',')[0]}"),
        new BarChart("move", "move", "Handing memory over", _ => true, series => $"{series.Data}, {series.Way}, {series.Measured}"),
        new BarChart("startup", "startup", "First call and thousandth, 2 MiB", _ => true, series => $"{series.Way}, {series.Measured}"),
        new BarChart("snapshot", "snapshot", "How long a .NET program of 800 MiB stands still",
            series => series.Measured == "longest gap", series => series.Way),
        new LineChart("pressure", "pressure", "Migration into a cgroup with room for 1.25 n, every byte read by the target", "seconds",
            report => report.Series.Where(one => one.Measured == PressureBenchmark.Read).Select(one => (one.Way, one.Size, one.Time.P50 / 1e6))),
        new LineChart("pressure", "pressure-swap", "Swapped in meanwhile", "MiB",
            report => (report.Amounts ?? []).Where(one => one.Measured == PressureBenchmark.SwappedIn).Select(one => (one.Way, one.Size, one.Value.P50 * PageRange.PageSize / (1 << 20)))),
    ];

    /// <summary>Writes the picture; nothing where there are no results.</summary>
    public void Draw(DirectoryInfo results)
    {
        if (ResultFiles.Read(Benchmark, results) is not { } report) return;
        using var plot = new Plot();
        // One that is everywhere, so that who draws makes no difference; the reader's browser brings its own.
        plot.Font.Set("DejaVu Sans");
        plot.Title(Title, size: 15);
        int height = Fill(plot, report);
        if (height > 0) System.IO.File.WriteAllText(Path.Combine(results.FullName, $"{File}.svg"), Renumber(plot.GetSvgXml(Width, height)));
    }

    // Skia counts its clip paths through all that a process draws: with the results of one benchmark only its own pictures are to change.
    private static string Renumber(string svg)
    {
        var names = new Dictionary<string, string>();
        return ClipPath().Replace(svg, match =>
        {
            if (!names.TryGetValue(match.Value, out string? name)) names.Add(match.Value, name = $"clip{names.Count}");
            return name;
        });
    }

    [GeneratedRegex(@"\bcl_[0-9a-f]+\b")]
    private static partial Regex ClipPath();

    /// <returns>The height of the picture; 0 where there is nothing to draw.</returns>
    protected abstract int Fill(Plot plot, BenchReport report);
}

/// <summary>One bar for each series: the median, with the least and the most as a line. The axis is logarithmic, from one power of ten to another. Without a label it is the way that stands before the bar.</summary>
internal sealed record BarChart(string Benchmark, string File, string Title, Func<Series, bool> Chosen, Func<Series, string>? Label = null)
    : Chart(Benchmark, File, Title)
{
    protected override int Fill(Plot plot, BenchReport report)
    {
        Series[] series = [.. report.Series.Where(Chosen)];
        if (series.Length == 0) return 0;
        int least = (int)Math.Floor(Math.Log10(series.Min(one => one.Time.Minimum))), most = (int)Math.Ceiling(Math.Log10(series.Max(one => one.Time.Maximum)));
        for (int i = 0; i < series.Length; i++)
        {
            Spread time = series[i].Time;
            double position = series.Length - i, length = Math.Log10(time.P50);
            bool isOurs = IsOurs(series[i].Way);
            plot.Add.Bar(new Bar
            {
                Position = position, ValueBase = least, Value = length, Size = 0.7, Orientation = Orientation.Horizontal, LineWidth = 0,
                FillColor = isOurs ? Colors.SteelBlue : Colors.LightGray,
            });
            plot.Add.Line(Math.Log10(time.Minimum), position, Math.Log10(time.Maximum), position).LineColor = Colors.DimGray;
            plot.Add.Text(Text(time.P50), Math.Log10(time.Maximum) + 0.04, position).LabelAlignment = Alignment.MiddleLeft;
        }

        plot.Axes.Left.SetTicks([.. Enumerable.Range(0, series.Length).Select(i => (double)(series.Length - i))], [.. series.Select(Label ?? (one => one.Way))]);
        int[] powers = [.. Enumerable.Range(least, most - least + 1)];
        plot.Axes.Bottom.SetTicks([.. powers.Select(power => (double)power)], [.. powers.Select(power => Text(Math.Pow(10, power)))]);
        plot.Axes.SetLimits(least, most + 0.25, 0.4, series.Length + 0.6);
        plot.Grid.YAxisStyle.IsVisible = false;
        return 90 + (28 * series.Length);
    }

    private static bool IsOurs(string way) =>
        way is "push" or "pull" or "third party" or "JIT" or "NativeAOT" || way.Contains("PVMMAP", StringComparison.Ordinal) || way.Contains("process_vm_mmap", StringComparison.Ordinal)
        || way.Contains("ProcessSnapshot", StringComparison.Ordinal) || way.Contains("CoreDump", StringComparison.Ordinal);

    private static string Text(double microseconds) => Rendering.Time(microseconds).Replace(".0 ms", " ms", StringComparison.Ordinal);
}

/// <summary>One line for each way, over the size of the data in bytes.</summary>
internal sealed record LineChart(string Benchmark, string File, string Title, string Unit, Func<BenchReport, IEnumerable<(string Way, ulong? Size, double Value)>> Points)
    : Chart(Benchmark, File, Title)
{
    protected override int Fill(Plot plot, BenchReport report)
    {
        IGrouping<string, (string Way, ulong? Size, double Value)>[] lines = [.. Points(report).Where(point => point.Size is not null).GroupBy(point => point.Way)];
        if (lines.Length == 0) return 0;
        foreach (var line in lines)
        {
            var drawn = plot.Add.Scatter((double[])[.. line.Select(point => (double)point.Size!.Value / (1 << 20))], (double[])[.. line.Select(point => point.Value)]);
            drawn.LegendText = line.Key;
            drawn.LineWidth = 2;
        }

        plot.XLabel("n in MiB");
        plot.YLabel(Unit);
        plot.ShowLegend(Alignment.UpperLeft);
        plot.Axes.SetLimitsY(0, 1.05 * lines.Max(line => line.Max(point => point.Value)) + 1e-9);
        return 420;
    }
}
