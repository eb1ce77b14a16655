using System.CommandLine;
using Spectre.Console;

namespace Pvmmap.Cli;

/// <summary><c>pvmmap doctor</c>: each capability that the call needs, present or not, and the cure.</summary>
internal static class DoctorCommand
{
    public static Command Create()
    {
        Option<bool> json = CommonOptions.Json();
        var command = new Command(
            "doctor", "Check each capability that the call needs and name the cure for what is missing. Exit code 1 if a required one is.") { json };
        command.SetAction(parsed => Run(parsed.GetValue(json)));
        return command;
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
}
