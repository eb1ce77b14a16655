using System.CommandLine;
using System.Text.Json.Serialization;
using Pvmmap.Snapshots;

namespace Pvmmap.Cli;

/// <summary><c>pvmmap ps</c>: the fills under way on this machine, and the snapshots that are kept.</summary>
internal static class PsCommand
{
    public static Command Create()
    {
        Option<bool> json = CommonOptions.Json();
        var command = new Command(
            "ps", "List the fills under way on this machine (who holds the pages, who guards the holder, whom it serves, how far it is) and the snapshots kept on it.")
        { json };
        command.SetAction(parsed => Run(parsed.GetValue(json)));
        return command;
    }

    private static int Run(bool json)
    {
        var report = new Report(
            [.. Duplication.Running().Select(FillRow.From).OrderByDescending(row => row.AgeUs)],
            [.. ProcessSnapshot.Running().Select(SnapshotRow.From).OrderByDescending(row => row.AgeUs)]);
        if (json) JsonOutput.Write(report, JsonOutput.Plain.PsReport);
        else Console.Out.Write(Render(report));
        return ExitCode.Done;
    }

    internal static string Render(Report report) => report switch
    {
        { Fills: [], Snapshots: [] } => "No fill is under way, and no snapshot is kept.\n",
        { Snapshots: [] } => $"{Render(report.Fills)}",
        { Fills: [] } => $"{Render(report.Snapshots)}",
        _ => $"{Render(report.Fills)}\n{Render(report.Snapshots)}",
    };

    private static Listing Render(IEnumerable<SnapshotRow> rows)
    {
        var listing = new Listing(">KEEPER", ">OF", "NAME", ">OWNER", ">MEMORY", ">ITS OWN", ">AGE");
        foreach (SnapshotRow row in rows)
        {
            listing.Add($"{row.KeeperPid}", $"{row.Pid}", row.Name, row.OwnerPid == 0 ? "detached" : $"{row.OwnerPid}", Figures.Bytes(row.Bytes), Figures.Bytes(row.OwnBytes),
                Figures.Duration(TimeSpan.FromMicroseconds(row.AgeUs)));
        }

        return listing;
    }

    private static Listing Render(IEnumerable<FillRow> rows)
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

    /// <summary>What --json prints.</summary>
    internal sealed record Report(FillRow[] Fills, SnapshotRow[] Snapshots);

    /// <summary>
    /// One snapshot: the process that keeps it, what it is of, whom it ends with (0: detached). Of its memory its own is what nobody shares with it: what its
    /// end would free.
    /// </summary>
    internal sealed record SnapshotRow(int KeeperPid, int Pid, string Name, int OwnerPid, ulong Bytes, ulong OwnBytes, DateTimeOffset TakenAt, long AgeUs)
    {
        public static SnapshotRow From(SnapshotListing snapshot) => new(
            snapshot.KeeperPid, snapshot.ProcessId, snapshot.Name, snapshot.OwnerPid, snapshot.Bytes, snapshot.OwnBytes, snapshot.TakenAt,
            (long)Math.Max((DateTimeOffset.UtcNow - snapshot.TakenAt).TotalMicroseconds, 0));
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
