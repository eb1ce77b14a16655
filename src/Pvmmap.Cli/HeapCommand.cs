using System.CommandLine;
using System.Globalization;
using System.Text.Json.Serialization;
using Microsoft.Diagnostics.Runtime;
using Pvmmap.Diagnostics;
using Pvmmap.Snapshots;

namespace Pvmmap.Cli;

/// <summary><c>pvmmap heap PID</c>: the objects of a .NET process by type, as <c>dumpheap -stat</c> lists them, from a snapshot.</summary>
internal static class HeapCommand
{
    private const int MaximumSeconds = 24 * 60 * 60;

    public static Command Create()
    {
        var pid = new Argument<int>("PID") { Description = "The .NET process to look at, or the keeper of a snapshot of one.", CustomParser = ValueParsers.Pid };
        var top = new Option<int?>("--top") { Description = "List only the N types that take the most; the totals stay those of all.", HelpName = "N" };
        top.Validators.Add(result =>
        {
            if (result.Errors.Any()) return;
            if (result.GetValueOrDefault<int?>() is < 1) result.AddError("--top: give at least 1");
        });
        Option<ulong?> minimum = Size("--min-size", "Only objects of at least SIZE bytes."), maximum = Size("--max-size", "Only objects of at most SIZE bytes.");
        var type = new Option<string?>("--type") { Description = "Only types whose name contains TEXT; upper and lower case differ.", HelpName = "TEXT" };
        var timeout = new Option<int>("--timeout")
        {
            Description = "For how long to take snapshots until one is not in the middle of a garbage collection.",
            HelpName = "SECONDS",
            DefaultValueFactory = _ => 30,
        };
        timeout.Validators.Add(result =>
        {
            if (result.Errors.Any()) return;
            if (result.GetValueOrDefault<int>() is < 0 or > MaximumSeconds) result.AddError($"--timeout: give 0 to {MaximumSeconds} seconds");
        });
        var dac = new Option<string?>("--dac")
        {
            Description = "The libmscordaccore.so of the process's .NET version, if not the one beside its libcoreclr.so.",
            HelpName = "PATH",
        };
        Option<ulong?> maxShared = CommonOptions.MaximumShared();
        Option<bool> json = CommonOptions.Json();
        var command = new Command("heap", "List the objects of a .NET process by type (dumpheap -stat), which stands still for milliseconds only.")
        {
            pid, top, minimum, maximum, type, timeout, dac, maxShared, json,
        };
        command.SetAction(parsed =>
        {
            var options = new RuntimeSnapshotOptions
            {
                WaitForWalkableHeap = true,
                Timeout = TimeSpan.FromSeconds(parsed.GetValue(timeout)),
                DacPath = parsed.GetValue(dac),
                // The runtime has its code and its tables in a memfd that it maps twice; files are the program's own affair.
                Snapshot = new SnapshotOptions { SharedKinds = CoreFilter.AnonymousShared, MaximumSharedBytes = parsed.GetValue(maxShared) ?? new SnapshotOptions().MaximumSharedBytes },
            };
            var filter = new Filter(parsed.GetValue(minimum) ?? 0, parsed.GetValue(maximum) ?? ulong.MaxValue, parsed.GetValue(type) ?? "");
            return Run(parsed.GetValue(pid), options, filter, parsed.GetValue(top), parsed.GetValue(json));
        });
        return command;
    }

    private static Option<ulong?> Size(string name, string description) =>
        new(name) { Description = description, HelpName = "SIZE", CustomParser = result => ValueParsers.Size(result) };

    private static int Run(int pid, RuntimeSnapshotOptions options, Filter filter, int? top, bool json)
    {
        using RuntimeSnapshot snapshot = KeptSnapshot.TryOpen(pid) is { } kept ? RuntimeSnapshot.Open(kept, options.DacPath) : RuntimeSnapshot.Capture(pid, options);
        HeapStatistics all = snapshot.CountHeap(filter.TakesAll ? null : filter.Takes);
        HeapReport report = HeapReport.From(snapshot, new HeapStatistics([.. all.Types.Where(filter.Takes)]), top);
        if (json)
        {
            JsonOutput.Write(report, JsonOutput.Plain.HeapReport);
            return ExitCode.Done;
        }

        Console.Error.WriteLine(report.Stop);
        foreach (string note in snapshot.Snapshot.Notes) Console.Error.WriteLine(note);
        Console.Out.Write(Render(report));
        return ExitCode.Done;
    }

    internal static string Render(HeapReport report)
    {
        var listing = new Listing(">MT", ">COUNT", ">SIZE", "CLASS NAME");
        foreach (TypeRow row in report.Types) listing.Add(row.MethodTable[2..], Text(row.Count), Text(row.Size), row.Name);
        return string.Create(CultureInfo.InvariantCulture,
            $"{listing}Total {report.Count} objects, {report.Size} bytes; of these free: {report.FreeCount}, {report.FreeSize} bytes\n");
    }

    private static string Text(ulong number) => number.ToString(CultureInfo.InvariantCulture);

    private sealed record Filter(ulong Minimum, ulong Maximum, string Name)
    {
        public bool TakesAll => Minimum == 0 && Maximum == ulong.MaxValue;

        public bool Takes(ClrObject item) => item.Size >= Minimum && item.Size <= Maximum;

        public bool Takes(TypeStatistics type) => type.Name.Contains(Name, StringComparison.Ordinal);
    }

    /// <summary>One type: the address of its method table tells types of one name apart.</summary>
    internal sealed record TypeRow(string MethodTable, ulong Count, ulong Size, string Name);

    /// <summary>The heap; count and size are of all objects that the options let through, free ones included, also of those types that --top leaves out.</summary>
    internal sealed record HeapReport(
        int Pid, string Runtime, DateTimeOffset TakenAt, int Snapshots, double StopTimeUs, double AllStopTimesUs, ulong Count, ulong Size, ulong FreeCount, ulong FreeSize,
        TypeRow[] Types)
    {
        /// <summary>For how long the process stood still.</summary>
        [JsonIgnore]
        public string Stop
        {
            get
            {
                string text = $"process {Pid} stood still for {Figures.Duration(TimeSpan.FromMicroseconds(StopTimeUs))}";
                return Snapshots == 1 ? text
                    : $"{text}; for {Figures.Duration(TimeSpan.FromMicroseconds(AllStopTimesUs))} in all, {Snapshots} snapshots having been taken until the heap could be walked";
            }
        }

        public static HeapReport From(RuntimeSnapshot snapshot, HeapStatistics heap, int? top)
        {
            TypeStatistics[] free = [.. heap.Types.Where(type => type.IsFree)];
            return new HeapReport(
                snapshot.Snapshot.Identity.ProcessId, snapshot.Runtime.ClrInfo.ModuleInfo.FileName, snapshot.Snapshot.TakenAt, snapshot.Attempts,
                snapshot.Snapshot.StopTime.TotalMicroseconds, snapshot.StopTime.TotalMicroseconds, heap.Count, heap.Size,
                free.Aggregate(0UL, (sum, type) => sum + type.Count), free.Aggregate(0UL, (sum, type) => sum + type.Size),
                [.. heap.Types.TakeLast(top ?? int.MaxValue).Select(type => new TypeRow(Figures.Hex(type.MethodTable), type.Count, type.Size, type.Name))]);
        }
    }
}
