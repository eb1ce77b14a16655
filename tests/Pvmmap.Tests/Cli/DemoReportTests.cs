using Pvmmap.Cli.Demo;
using Spectre.Console;
using Xunit;

namespace Pvmmap.Tests.Cli;

public sealed class DemoReportTests
{
    private static readonly DemoReport.Run s_mmap = new(20_000, 300_000, 400_000, 660 << 20, 1.03, true);
    private static readonly DemoReport.Run s_writev = new(500_000, 500_000, 900_000, 1300UL << 20, 2.03, true);

    private static readonly DemoReport s_report = new("/data", 640 << 20, "abc", true, true, s_mmap, s_writev, 25, 1.97, "counted", ["a note"]);

    [Fact]
    public void The_table_has_both_ways_and_the_ratios()
    {
        string text = Render(s_report);
        Assert.Contains("20.0 ms", text, StringComparison.Ordinal);
        Assert.Contains("500 ms", text, StringComparison.Ordinal);
        Assert.Contains("660 MiB (1.03 x data)", text, StringComparison.Ordinal);
        Assert.Contains("The call returned 25 times sooner than process_vm_writev().", text, StringComparison.Ordinal);
        Assert.Contains("1.03 times the data, with process_vm_writev() 2.03 times", text, StringComparison.Ordinal);
        Assert.Contains("Note: a note", text, StringComparison.Ordinal);
    }

    [Fact]
    public void A_call_that_is_slower_is_said_to_be_slower() =>
        Assert.Contains("4.00 times later than", Render(s_report with { CallRatio = 0.25 }), StringComparison.Ordinal);

    [Fact]
    public void Any_difference_fails_the_demo()
    {
        Assert.True(s_report.Passed);
        Assert.False((s_report with { SourceUnchangedByTarget = false }).Passed);
        Assert.False((s_report with { TargetUnchangedBySource = false }).Passed);
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
