using System.CommandLine;
using Spectre.Console;

namespace Pvmmap.Cli.Demo;

/// <summary><c>pvmmap demo</c>: a page server pushes real data into another live process, beside process_vm_writev().</summary>
internal static class DemoCommand
{
    // Two processes with their runtimes, the sender's buffers, and some room for everybody else on the machine.
    private const ulong Headroom = 192UL << 20;

    public static Command Create()
    {
        var path = new Argument<string?>("FILE|DIR")
        {
            Description = "What to send: a file, or a folder as a tar stream. Default: the installed .NET SDK.",
            Arity = ArgumentArity.ZeroOrOne,
        };
        var size = new Option<ulong?>("--size")
        {
            Description = "Send at most that much (bytes, or with K, M, G).",
            HelpName = "LIMIT",
            CustomParser = result => ValueParsers.Size(result),
        };
        var smallPages = new Option<bool>("--small-pages")
        {
            Description = "Receive into 4 KiB pages instead of transparent huge pages.",
        };
        Option<bool> json = CommonOptions.Json();
        var command = new Command(
            "demo", "A page server receives real data and gets it into another process: copied, handed over, and with process_vm_writev().")
        {
            path, size, smallPages, json,
        };
        command.SetAction(parsed => Run(parsed.GetValue(path), parsed.GetValue(size) ?? ulong.MaxValue, parsed.GetValue(smallPages), parsed.GetValue(json)));
        return command;
    }

    private static int Run(string? path, ulong limit, bool smallPages, bool json)
    {
        IAnsiConsole console = json ? Terminal.Silent : Terminal.Output;
        DemoInput input = DemoInput.Open(path, limit, Room());
        Say(console, $"Input: {input.Description}");
        Say(console, $"       {Figures.Bytes(input.Length)}, SHA-256 {input.Sha256[..16]}...");
        Say(console, $"       received into {(smallPages ? "4 KiB pages" : "transparent huge pages (--small-pages: into 4 KiB pages)")}");

        Say(console, $"");
        Say(console, $"1. process_vm_mmap(), the page server keeps its copy");
        DemoOutcome kept = DemoRun.Execute(input, DemoMethod.Keep, smallPages);
        Say(console, $"   process {kept.PageServerPid} received it on 127.0.0.1");
        Say(console, $"   and pushed it into process {kept.TargetPid} at {Figures.Hex(kept.Measured.Address)}");
        Check(console, kept.Equal, "the target read all of it while the fill went on: SHA-256 equal");
        Check(console, kept.Measured.SourceUnchanged, "the target wrote into each of its pages: the source's copy is unchanged");
        Check(console, kept.Measured.TargetUnchanged, "the source wrote into each of its pages: the target's copy is unchanged");

        Say(console, $"2. process_vm_mmap(), the page server releases its memory at once");
        DemoOutcome pushed = DemoRun.Execute(input, DemoMethod.Release, smallPages);
        Check(console, pushed.Equal, "the target read all of it: SHA-256 equal");

        Say(console, $"3. process_vm_mmap() with PVMMAP_MOVE, the page server hands its memory over");
        DemoOutcome moved = DemoRun.Execute(input, DemoMethod.HandOver, smallPages);
        Check(console, moved.Measured.SourceUnmapped, "when the call had returned the page server had its range no more");
        Check(console, moved.Equal, "the target read all of it: SHA-256 equal");

        Say(console, $"4. process_vm_writev(), the page server releases its memory at once");
        DemoOutcome written = DemoRun.Execute(input, DemoMethod.Write, smallPages);
        Check(console, written.Equal, "the target read all of it: SHA-256 equal");

        DemoReport report = DemoReport.From(input, kept, pushed, moved, written);
        if (json) JsonOutput.Write(report, JsonOutput.Plain.DemoReport);
        else Render(report, console);
        return report.Passed ? ExitCode.Done : ExitCode.Failed;
    }

    internal static void Render(DemoReport report, IAnsiConsole console)
    {
        DemoReport.Run writev = report.ProcessVmWritev, mmap = report.ProcessVmMmap, move = report.ProcessVmMmapMove;
        var table = new Table().Border(TableBorder.Rounded).AddColumn("");
        foreach (string way in (string[])["process_vm_writev\n", "process_vm_mmap\ncopied", "process_vm_mmap\nPVMMAP_MOVE"])
        {
            table.AddColumn(new TableColumn(way).RightAligned());
        }

        void Row(string what, Func<DemoReport.Run, string> figure) => table.AddRow(what, figure(writev), figure(mmap), figure(move));
        Row("the call took", run => Time(run.CallUs));
        Row("every page in place after", run => Time(run.CompleteUs));
        Row("checked by the target after", run => Time(run.VerifiedUs));
        Row("peak memory, both together", run => Figures.Bytes(run.PeakBytes));
        Row("... in times the data", run => Figures.Ratio(run.PeakToData));
        Row("equal", run => run.Equal ? "yes" : "NO");
        console.WriteLine();
        console.Write(table);
        string copied = Times(report.CallRatio, "sooner", "later"), moved = Times(report.MoveCallRatio, "sooner", "later");
        Say(console, $"The call returned {copied} than process_vm_writev(), with PVMMAP_MOVE {moved}.");
        string once = Figures.Ratio(mmap.PeakToData), handed = Figures.Ratio(move.PeakToData), twice = Figures.Ratio(writev.PeakToData);
        Say(console, $"At its peak the pair held {once} times the data, with PVMMAP_MOVE {handed} times,");
        Say(console, $"with process_vm_writev() {twice} times.");
        Say(console, $"Peak memory: {report.PeakMethod}.");
        foreach (string note in report.Notes) Say(console, $"Note: {note}");
    }

    /// <summary>Bytes of data that fit into memory twice, which is what process_vm_writev() needs.</summary>
    private static ulong Room()
    {
        ulong available = MemoryInfo.Read("MemAvailable");
        return (available - Math.Min(available, Headroom)) / 2;
    }

    private static string Times(double ratio, string more, string less) =>
        ratio >= 1 ? $"{Figures.Ratio(ratio)} times {more}" : $"{Figures.Ratio(1 / ratio)} times {less}";

    private static string Time(double microseconds) => Figures.Duration(TimeSpan.FromMicroseconds(microseconds));

    private static void Check(IAnsiConsole console, bool good, string what) =>
        console.MarkupLine(good ? $"   [green]ok[/]  {what.EscapeMarkup()}" : $"   [red]FAILED[/]  {what.EscapeMarkup()}");

    private static void Say(IAnsiConsole console, FormattableString text) => console.WriteLine(FormattableString.Invariant(text));
}
