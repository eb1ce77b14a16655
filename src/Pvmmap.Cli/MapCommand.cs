using System.CommandLine;
using Pvmmap.Procfs;

namespace Pvmmap.Cli;

/// <summary><c>pvmmap map PID</c>: the VMAs of a process, what is resident and swapped of each, and what a fill still owes it.</summary>
internal static class MapCommand
{
    public static Command Create()
    {
        var pid = new Argument<int>("PID") { Description = "The process to look at.", CustomParser = ValueParsers.Pid };
        Option<bool> json = CommonOptions.Json();
        var command = new Command("map", "List the VMAs of a process, with resident, swapped and being-filled figures.") { pid, json };
        command.SetAction(parsed => Run(parsed.GetValue(pid), parsed.GetValue(json)));
        return command;
    }

    private static int Run(int pid, bool json)
    {
        List<SmapsEntry> entries = Smaps.Read(pid);
        List<Duplication> fills = [.. Duplication.Running().Where(fill => fill.TargetPid == pid)];
        VmaRow[] rows = [.. entries.Select(entry => VmaRow.From(entry, fills))];
        if (json)
        {
            JsonOutput.Write(rows, JsonOutput.Plain.VmaRowArray);
            return ExitCode.Done;
        }

        if (rows.Length == 0) return Failure.Write($"map {pid}: this process has no memory of its own; it is a kernel thread or exiting");
        Console.Out.Write(Render(rows));
        return ExitCode.Done;
    }

    internal static Listing Render(IEnumerable<VmaRow> rows)
    {
        var listing = new Listing("RANGE", "PERM", ">SIZE", ">RESIDENT", ">SWAPPED", ">TO FILL", "NAME");
        foreach (VmaRow row in rows)
        {
            listing.Add($"{row.Start[2..]}-{row.End[2..]}", row.Permissions, Figures.Bytes(row.Size), Figures.Bytes(row.Resident),
                row.Swapped == 0 ? "-" : Figures.Bytes(row.Swapped), row.Filling is { } fill ? Figures.Bytes(fill.BytesToGo) : "-", row.Name);
        }

        return listing;
    }

    /// <summary>One VMA.</summary>
    internal sealed record VmaRow(
        string Start, string End, string Permissions, ulong Size, ulong Resident, ulong Swapped, ulong AnonymousHugePages, Filling? Filling,
        string Name)
    {
        public static VmaRow From(SmapsEntry entry, IEnumerable<Duplication> fills)
        {
            Vma vma = entry.Vma;
            Duplication? fill = fills.FirstOrDefault(f => new PageRange(f.Address, f.Address + f.Length).Overlaps(vma.Range));
            return new VmaRow(Figures.Hex(vma.Range.Start), Figures.Hex(vma.Range.End), PermissionsOf(vma), vma.Range.Length, entry.Rss, entry.Swap,
                entry.AnonHugePages, fill is null ? null : new Filling(fill.HolderPid, fill.SourcePid, fill.BytesToGo, fill.BytesTotal), vma.Name);
        }

        private static string PermissionsOf(Vma vma) => string.Concat(
            vma.Protection.HasFlag(Protection.Read) ? "r" : "-",
            vma.Protection.HasFlag(Protection.Write) ? "w" : "-",
            vma.Protection.HasFlag(Protection.Execute) ? "x" : "-",
            vma.Shared ? "s" : "p");
    }

    /// <summary>The fill that a VMA belongs to. The figures are those of the whole fill, which may span several VMAs.</summary>
    internal sealed record Filling(int HolderPid, int SourcePid, ulong BytesToGo, ulong BytesTotal);
}
