using System.CommandLine;
using System.Diagnostics;

namespace Pvmmap.Cli;

/// <summary>
/// <c>pvmmap copy</c> and <c>pvmmap move</c>: the call between two processes, and its fill followed to the end. They differ in one flag.
/// </summary>
internal static class MmapCommand
{
    private const string Watching = "Ctrl-C while it fills ends the display, not the fill.";

    public static Command CreateCopy() => Create(
        "copy", $"Duplicate a range of one process's memory into another, copy-on-write. {Watching}", MmapFlags.None);

    public static Command CreateMove() => Create(
        "move", $"Hand a range of one process's memory over to another: the source range is unmapped as part of the call. {Watching}",
        MmapFlags.Move);

    private static Command Create(string name, string description, MmapFlags mode)
    {
        Option<int> from = Process("--from", $"Process to {name} from."), to = Process("--to", $"Process to {name} into.");
        var range = new Option<AddressRange>("--range")
        {
            Description = $"What to {name}: {AddressSyntax.Forms}. Rounded outward to whole pages.",
            HelpName = "RANGE",
            Required = true,
            CustomParser = ValueParsers.Range,
        };
        var at = new Option<ulong?>("--at")
        {
            Description = "Destination address, hexadecimal with 0x or decimal; a hint unless --fixed or --fixed-noreplace is given.",
            HelpName = "ADDR",
            CustomParser = result => ValueParsers.Address(result),
        };
        var fixedAt = new Option<bool>("--fixed") { Description = "Exactly at --at; what is mapped there is replaced." };
        var noReplace = new Option<bool>("--fixed-noreplace") { Description = "Exactly at --at; fails if something is mapped there." };
        var lazy = new Option<bool>("--lazy") { Description = "Fill on touch only, no background fill; returns at once." };
        var populate = new Option<bool>("--populate") { Description = "Return when every page is in place." };
        var noWait = new Option<bool>("--no-wait") { Description = "Return as soon as the call has; the fill goes on behind it." };
        var hugePages = new Option<bool>("--huge-pages")
        {
            Description = "When every page is in place, have the kernel join them to transparent huge pages (MADV_COLLAPSE, needs CAP_SYS_NICE).",
        };
        Option<bool> json = CommonOptions.Json();
        var command = new Command(name, description)
        {
            from, to, range, at, fixedAt, noReplace, lazy, populate, noWait, hugePages, json,
        };
        command.Validators.Add(result =>
        {
            bool exact = result.GetValue(fixedAt) || result.GetValue(noReplace);
            if (exact && result.GetResult(at) is null) result.AddError("--fixed and --fixed-noreplace need an address; add --at ADDR");
            if (result.GetValue(lazy) && result.GetValue(populate)) result.AddError("--lazy contradicts --populate; choose one of them");
            if (result.GetValue(hugePages) && (result.GetValue(lazy) || result.GetValue(noWait)))
                result.AddError("--huge-pages comes after the fill, for which --lazy and --no-wait do not wait; leave them out");
        });
        command.SetAction(parsed =>
        {
            MmapFlags flags = mode | (parsed.GetValue(fixedAt) ? MmapFlags.Fixed : 0) | (parsed.GetValue(noReplace) ? MmapFlags.FixedNoReplace : 0)
                | (parsed.GetValue(lazy) ? MmapFlags.Lazy : 0) | (parsed.GetValue(populate) ? MmapFlags.Populate : 0);
            bool follow = !parsed.GetValue(noWait) && !parsed.GetValue(lazy);
            return Run(
                name, parsed.GetValue(from), parsed.GetValue(to), parsed.GetValue(range), parsed.GetValue(at) ?? 0, flags, follow,
                parsed.GetValue(hugePages), parsed.GetValue(json));
        });
        return command;
    }

    private static Option<int> Process(string name, string description) =>
        new(name) { Description = description, HelpName = "PID", Required = true, CustomParser = ValueParsers.Pid };

    private static int Run(string name, int from, int to, AddressRange range, ulong at, MmapFlags flags, bool follow, bool hugePages, bool json)
    {
        long start = Stopwatch.GetTimestamp();
        MmapResult result = ProcessVm.MmapBetween(from, to, range.Start, range.Length, at, flags);
        using Duplication fill = result.Duplication;
        using FillProgress? progress = follow ? new FillProgress() : null;
        if (!json) Console.Out.Write(Describe(result));

        bool followed = progress?.Follow(fill) == true;
        TimeSpan? filledAfter = fill.State == DuplicationState.Complete && followed ? Stopwatch.GetElapsedTime(start) : null;
        DuplicationState state = fill.State;
        if (!json && filledAfter is { } time) Console.Out.WriteLine($"every page in place after {Figures.Duration(time)}");
        ulong? joined = hugePages && filledAfter is not null ? progress!.Join(fill) : null;
        if (json) JsonOutput.Write(Report.From(result, state, filledAfter, joined), JsonOutput.Plain.Report);
        else if (joined is { } bytes) Console.Out.WriteLine($"{Figures.Bytes(bytes)} in huge pages after {Figures.Duration(Stopwatch.GetElapsedTime(start))}");

        if (follow && !followed)
        {
            // The user has what was asked for: the call is done, only the watching was cut short.
            Console.Error.WriteLine($"pvmmap: the fill goes on in process {fill.HolderPid}; 'pvmmap ps' shows it");
            return ExitCode.Done;
        }

        return state switch
        {
            DuplicationState.TargetGone => Failure.Write(
                $"{name}: process {to} exited or unmapped the range before every page was in place; nothing is left to do"),
            DuplicationState.Lost => Failure.Write(
                $"{name}: the holder was destroyed before every page was in place; process {to} gets SIGBUS where one is missing; "
                + "unmap the range there"),
            _ => ExitCode.Done,
        };
    }

    private static string Describe(MmapResult result)
    {
        var text = new StringWriter { NewLine = "\n" };
        text.WriteLine($"{Figures.Bytes(result.Length)} at {Figures.Hex(result.Address)}, data at {Figures.Hex(result.DataAddress)}");
        text.WriteLine($"call {Figures.Duration(result.CallTime)}, source stopped {Figures.Duration(result.SourceStopTime)}, "
            + $"target stopped {Figures.Duration(result.TargetStopTime)}{(result.Backend == Backend.Kernel ? ", made by the kernel" : "")}");
        foreach (string note in result.Notes) text.WriteLine($"note: {note}");
        return text.ToString();
    }

    /// <summary>What --json prints.</summary>
    internal sealed record Report(
        string Address, string DataAddress, ulong Bytes, double CallTimeUs, double SourceStopTimeUs, double TargetStopTimeUs, double? FilledAfterUs,
        ulong? HugePageBytes,
        int SourcePid, int TargetPid, int HolderPid, string Backend, string State, IReadOnlyList<string> Notes)
    {
        public static Report From(MmapResult result, DuplicationState state, TimeSpan? filledAfter, ulong? hugePageBytes) => new(
            Figures.Hex(result.Address), Figures.Hex(result.DataAddress), result.Length, result.CallTime.TotalMicroseconds,
            result.SourceStopTime.TotalMicroseconds, result.TargetStopTime.TotalMicroseconds, filledAfter?.TotalMicroseconds, hugePageBytes,
            result.Duplication.SourcePid, result.Duplication.TargetPid, result.Duplication.HolderPid, result.Backend.Word(), state.Word(), result.Notes);
    }
}
