using System.CommandLine;
using Spectre.Console;

namespace Pvmmap.Cli;

/// <summary><c>pvmmap doctor</c>: each capability that the call needs, present or not, and the cure; of two processes, what a call between them will come to.</summary>
internal static class DoctorCommand
{
    public static Command Create()
    {
        Option<bool> json = CommonOptions.Json();
        Option<int?> from = Process("--from", "Tell what a call will come to that takes from this process; the tool itself if only --to is given."),
            to = Process("--to", "The same, into this process; the tool itself if only --from is given.");
        var command = new Command(
            "doctor",
            "Check each capability that the call needs and name the cure for what is missing; with --from and --to, tell what will work between two processes. "
            + "Nothing is touched. Exit code 1 if the call will not work.") { from, to, json };
        command.SetAction(parsed => parsed.GetValue(from) is null && parsed.GetValue(to) is null
            ? Run(parsed.GetValue(json))
            : Run(parsed.GetValue(from) ?? Environment.ProcessId, parsed.GetValue(to) ?? Environment.ProcessId, parsed.GetValue(json)));
        return command;
    }

    private static Option<int?> Process(string name, string description) =>
        new(name) { Description = description, HelpName = "PID", CustomParser = result => ValueParsers.Pid(result) };

    private static int Run(int from, int to, bool json)
    {
        Prognosis prognosis = Prognosis.Of(from, to);
        PrognosisReport report = PrognosisReport.From(prognosis);
        if (json) JsonOutput.Write(report, JsonOutput.Plain.PrognosisReport);
        else Render(report, Terminal.Output);
        return prognosis.Outlook == Outlook.Refused ? ExitCode.Failed : ExitCode.Done;
    }

    internal static void Render(PrognosisReport report, IAnsiConsole console)
    {
        int width = report.Checks.Max(check => check.Name.Length), processes = report.Checks.Max(check => check.Process.Length);
        foreach (CheckRow check in report.Checks)
        {
            string mark = check.Outlook switch { Words.Shared or Words.Lazy => "[green]yes[/] ", Words.Copied => "[yellow]copy[/]", _ => "[red]NO[/]  " };
            string cure = check.Cure is null ? "" : $"; [bold]cure:[/] {check.Cure.EscapeMarkup()}";
            console.MarkupLine($"{mark}  {check.Process.PadRight(processes)}  {check.Name.PadRight(width)}  {check.Detail.EscapeMarkup()}{cure}");
        }

        string ending = report.Cure is null ? "" : $"; [bold]cure:[/] {report.Cure.EscapeMarkup()}";
        console.MarkupLine(report.Outlook switch
        {
            Words.Shared => "[green]works: shared by the kernel[/]",
            Words.Lazy => "[green]works: lazily filled[/]",
            Words.Copied => $"[yellow]works: plain copy[/], because {report.Reason!.EscapeMarkup()}{ending}",
            _ => $"[red]does not work: {report.Errno}[/], because {report.Reason!.EscapeMarkup()}{ending}",
        });
    }

    private static int Run(bool json)
    {
        CapabilityRow[] rows = [.. Capabilities.Probe().Select(CapabilityRow.From)];
        if (json) JsonOutput.Write(rows, JsonOutput.Plain.CapabilityRowArray);
        else Render(rows, Terminal.Output);
        return rows.Any(row => row is { Required: true, Present: false }) ? ExitCode.Failed : ExitCode.Done;
    }

    internal static void Render(IReadOnlyCollection<CapabilityRow> rows, IAnsiConsole console)
    {
        int width = rows.Max(row => row.Name.Length);
        foreach (CapabilityRow row in rows)
        {
            string mark = row.Present ? "[green]yes[/]     " : row.Required ? "[red]MISSING[/] " : "[yellow]no[/]      ";
            console.MarkupLine($"{mark}{row.Name.PadRight(width).EscapeMarkup()}  {row.Detail.EscapeMarkup()}");
            if (row.Cure is not null) console.MarkupLine($"        [bold]cure:[/] {row.Cure.EscapeMarkup()}");
        }

        int missing = rows.Count(row => row is { Required: true, Present: false });
        int reduced = rows.Count(row => row is { Required: false, Present: false });
        console.MarkupLine(missing > 0 ? $"[red]The call cannot work here: {missing} of what it needs is missing.[/]"
            : reduced > 0 ? $"The call works here; {reduced} optional {(reduced == 1 ? "capability is" : "capabilities are")} missing."
            : "[green]Everything is here.[/]");
    }

    /// <summary>One capability.</summary>
    internal sealed record CapabilityRow(string Name, bool Present, bool Required, string Detail, string? Cure)
    {
        public static CapabilityRow From(Capability found) => new(found.Name, found.Present, found.Required, found.Detail, found.Cure);
    }

    /// <summary>The outlooks, as --json prints them.</summary>
    private static class Words
    {
        public const string Shared = "shared", Lazy = "lazy", Copied = "copy", Refused = "refused";

        public static string Of(Outlook outlook) =>
            outlook switch { Outlook.Shared => Shared, Outlook.FilledLazily => Lazy, Outlook.CopiedInTheCall => Copied, _ => Refused };
    }

    /// <summary>What was found about one of two processes. The outlook is what the call would come to if all else were well.</summary>
    internal sealed record CheckRow(string Process, int Pid, string Name, string Outlook, string Detail, string? Cure);

    /// <summary>What a call between two processes will come to.</summary>
    internal sealed record PrognosisReport(
        int SourcePid, int TargetPid, bool Works, string Outlook, string? Errno, string? Reason, string? Cure, IReadOnlyList<CheckRow> Checks)
    {
        public static PrognosisReport From(Prognosis found) => new(
            found.SourcePid, found.TargetPid, found.Outlook != Pvmmap.Outlook.Refused, Words.Of(found.Outlook), found.Errno == Pvmmap.Errno.None ? null : $"{found.Errno}",
            found.Reason, found.Cure, [.. found.Checks.Select(check => new CheckRow(ProcessOf(found, check), check.Pid, check.Name, Words.Of(check.Outlook), check.Detail, check.Cure))]);

        private static string ProcessOf(Prognosis found, PairCheck check) =>
            check.Pid == 0 ? "machine" : check.Pid != found.SourcePid ? $"target {check.Pid}" : found.SourcePid == found.TargetPid ? $"both {check.Pid}" : $"source {check.Pid}";
    }
}
