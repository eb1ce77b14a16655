using System.CommandLine;
using System.Text.Json.Serialization;

namespace Pvmmap.Cli;

/// <summary><c>pvmmap ps</c>: the fills under way on this machine.</summary>
internal static class PsCommand
{
    public static Command Create()
    {
        Option<bool> json = CommonOptions.Json();
        var command = new Command(
            "ps", "List the fills under way on this machine: who holds the pages, who guards the holder, whom it serves, how far it is.") { json };
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
        var listing = new Listing(">HOLDER", "GUARDS", ">SOURCE", ">TARGET", "MODE", "ADDRESS", "FILLED", ">DONE", ">FAULTS", ">AGE", "STATE");
        foreach (FillRow row in rows)
        {
            listing.Add($"{row.HolderPid}", row.Guards, $"{row.SourcePid}", $"{row.TargetPid}", row.Mode, row.Address,
                $"{Figures.Bytes(row.BytesDone)} of {Figures.Bytes(row.BytesTotal)}", Figures.Percent(row.BytesDone, row.BytesTotal),
                $"{row.FaultsServed}", Figures.Duration(TimeSpan.FromMicroseconds(row.AgeUs)), row.State);
        }

        return listing;
    }

    /// <summary>
    /// One fill. The size is that of the range, the bytes of the progress are those of its pages that have content. A guard's number is 0 where
    /// there is none.
    /// </summary>
    internal sealed record FillRow(
        int HolderPid, int GuardianPid, int SentinelPid, int SourcePid, int TargetPid, string Mode, string SourceAddress, string Address,
        ulong Size, ulong BytesTotal, ulong BytesDone, ulong BytesToGo, ulong FaultsServed, long AgeUs, string State)
    {
        /// <summary>The processes that watch over the holder.</summary>
        [JsonIgnore]
        public string Guards => (GuardianPid, SentinelPid) switch
        {
            (0, 0) => "none",
            (_, 0) => $"{GuardianPid}",
            (0, _) => $"{SentinelPid}",
            _ => $"{GuardianPid},{SentinelPid}",
        };

        public static FillRow From(Duplication fill)
        {
            ulong total = fill.BytesTotal, toGo = Math.Min(fill.BytesToGo, total);
            return new FillRow(
                fill.HolderPid, fill.GuardianPid, fill.SentinelPid, fill.SourcePid, fill.TargetPid, fill.IsMove ? "move" : "copy", Figures.Hex(fill.SourceAddress),
                Figures.Hex(fill.Address), fill.Length, total, total - toGo, toGo, fill.FaultsServed, (long)fill.Age.TotalMicroseconds,
                fill.State.Word());
        }
    }
}
