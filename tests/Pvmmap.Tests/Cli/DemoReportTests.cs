using Pvmmap.Cli.Demo;
using Spectre.Console;
using Xunit;

namespace Pvmmap.Tests.Cli;

public sealed class DemoReportTests
{
    private static readonly DemoReport.Run s_mmap = new(20_000, 300_000, 400_000, 660 << 20, 1.03, true);
    private static readonly DemoReport.Run s_writev = new(500_000, 500_000, 900_000, 1300UL << 20, 2.03, true);

    private static readonly DemoReport.Run s_move = new(1_000, 310_000, 410_000, 645 << 20, 1.01, true);

    private static readonly DemoReport s_report = new(
        "/data", 640 << 20, "abc", true, true, true, s_writev, s_mmap, s_move, 25, 1.97, 500, 2.02, "counted", ["a note"]);

    [Fact]
    public void The_table_has_the_three_ways_and_the_ratios()
    {
        string text = Render(s_report);
        Assert.Matches("the call took +│ +500 ms │ +20.0 ms │ +1.0 ms │", text);
        Assert.Matches("peak memory, both together +│ +1.3 GiB │ +660 MiB │ +645 MiB │", text);
        Assert.Matches("times the data +│ +2.03 │ +1.03 │ +1.01 │", text);
        Assert.Contains("returned 25 times sooner than process_vm_writev(), with PVMMAP_MOVE 500 times sooner.", text, StringComparison.Ordinal);
        Assert.Contains("held 1.03 times the data, with PVMMAP_MOVE 1.01 times,", text, StringComparison.Ordinal);
        Assert.Contains("with process_vm_writev() 2.03 times", text, StringComparison.Ordinal);
        Assert.Contains("Note: a note", text, StringComparison.Ordinal);
    }

    [Fact]
    public void It_fits_a_hundred_columns() =>
        Assert.All(Render(s_report).Split('\n'), line => Assert.True(line.TrimEnd().Length <= 100, line));

    [Fact]
    public void A_call_that_is_slower_is_said_to_be_slower() =>
        Assert.Contains("4.00 times later than", Render(s_report with { CallRatio = 0.25 }), StringComparison.Ordinal);

    [Fact]
    public void Any_difference_fails_the_demo()
    {
        Assert.True(s_report.Passed);
        Assert.False((s_report with { SourceUnchangedByTarget = false }).Passed);
        Assert.False((s_report with { TargetUnchangedBySource = false }).Passed);
        Assert.False((s_report with { SourceUnmappedByMove = false }).Passed);
        Assert.False((s_report with { ProcessVmMmapMove = s_move with { Equal = false } }).Passed);
        Assert.False((s_report with { ProcessVmMmap = s_mmap with { Equal = false } }).Passed);
        Assert.False((s_report with { ProcessVmWritev = s_writev with { Equal = false } }).Passed);
    }

    private static string Render(DemoReport report)
    {
        using var text = new StringWriter();
        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(text), Ansi = AnsiSupport.No });
        console.Profile.Width = 1000;
        DemoCommand.Render(report, console);
        return text.ToString();
    }
}
