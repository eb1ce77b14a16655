using System.CommandLine;

namespace Pvmmap.Cli;

/// <summary><c>pvmmap ps</c>: the fills under way on this machine.</summary>
internal static class PsCommand
{
    public static Command Create()
    {
        Option<bool> json = CommonOptions.Json();
        var command = new Command("ps", "List the fills under way on this machine, with their progress.") { json };
        command.SetAction(parsed => Run(parsed.GetValue(json)));
        return command;
    }

    private static int Run(bool json)
    {
        FillRow[] rows = [.. Duplication.Running().Select(FillRow.From).OrderByDescending(row => row.AgeUs)];
        if (json) JsonOutput.Write(rows, JsonOutput.Plain.FillRowArray);
        else if (rows.Length == 0) Console.Out.WriteLine("No fill is under way.");
        else Console.Out.Write(Render(rows));
        return ExitCode.Done;
    }

    internal static Listing Render(IEnumerable<FillRow> rows)
    {
        var listing = new Listing(">HOLDER", ">SOURCE", ">TARGET", "ADDRESS", ">SIZE", ">DONE", ">TO GO", ">FAULTS", ">AGE", "STATE");
        foreach (FillRow row in rows)
        {
            listing.Add($"{row.HolderPid}", $"{row.SourcePid}", $"{row.TargetPid}", row.Address, Figures.Bytes(row.Size),
                Figures.Percent(row.BytesTotal - row.BytesToGo, row.BytesTotal), Figures.Bytes(row.BytesToGo), $"{row.FaultsServed}",
                Figures.Duration(TimeSpan.FromMicroseconds(row.AgeUs)), row.State);
        }

        return listing;
    }

    /// <summary>One fill.</summary>
    internal sealed record FillRow(
        int HolderPid, int GuardianPid, int SourcePid, int TargetPid, string Address, ulong Size, ulong BytesTotal, ulong BytesToGo,
        ulong FaultsServed, long AgeUs, string State)
    {
        public static FillRow From(Duplication fill) => new(
            fill.HolderPid, fill.GuardianPid, fill.SourcePid, fill.TargetPid, Figures.Hex(fill.Address), fill.Length, fill.BytesTotal,
            Math.Min(fill.BytesToGo, fill.BytesTotal), fill.FaultsServed, (long)fill.Age.TotalMicroseconds, fill.State.Word());
    }
}
