using System.CommandLine;
using System.Globalization;
using System.Runtime.InteropServices;
using Pvmmap.Linux;
using Pvmmap.Snapshots;
using Spectre.Console;

namespace Pvmmap.Cli;

/// <summary><c>pvmmap snapshot</c>: a process's core file, for which it stands still no longer than a fork takes; or a snapshot kept for later.</summary>
internal static class SnapshotCommand
{
    private const string Pipe = "-";

    public static Command Create()
    {
        var pid = new Argument<int>("PID") { Description = "Process to take, which goes on while the file is written; or the keeper of a snapshot that was kept.", CustomParser = ValueParsers.Pid };
        var output = new Option<string?>("--output", "-o")
        {
            Description = "File to write, or '-' for standard output. It has its name only when it is whole; Ctrl-C leaves nothing.",
            HelpName = "FILE",
        };
        var compress = new Option<Compression?>("--compress")
        {
            Description = "gzip, zstd or none; else the name decides: .gz, .zst.",
            HelpName = "KIND",
            CustomParser = CompressionKinds.Parse,
        };
        var filter = new Option<CoreFilter?>("--filter")
        {
            Description = "Which memory, in the bits of core(5), 0x0 to 0x1ff; else as the process's own coredump_filter says; of a .NET process the files that it runs too.",
            HelpName = "MASK",
            CustomParser = result => ValueParsers.Filter(result),
        };
        var full = new Option<bool>("--full") { Description = "All memory, program text and mapped files included." };
        var dontDump = new Option<bool>("--include-dontdump") { Description = "Also what the process excluded with madvise(MADV_DONTDUMP)." };
        var ranges = new Option<AddressRange[]>("--range")
        {
            Description = $"Only this memory, {AddressSyntax.Forms}; may be given several times.",
            HelpName = "RANGE",
            Arity = ArgumentArity.OneOrMore,
            AllowMultipleArgumentsPerToken = false,
            CustomParser = ValueParsers.Ranges,
        };
        Option<ulong?> maxShared = CommonOptions.MaximumShared();
        var force = new Option<bool>("--force") { Description = "Replace the file if it is there." };
        var keep = new Option<bool>("--keep") { Description = "Keep the snapshot when this command has ended, and tell the process that keeps it; 'pvmmap ps' lists it." };
        var release = new Option<bool>("--release") { Description = "End a snapshot that was kept, PID being its keeper; with -o, when the file is written." };
        Option<bool> json = CommonOptions.Json();
        var command = new Command("snapshot", "Write a core file of a process that goes on running: for gdb, lldb and the like.")
        {
            pid, output, compress, filter, full, dontDump, ranges, maxShared, keep, release, force, json,
        };
        command.Validators.Add(result =>
        {
            if (result.Errors.Any()) return;
            if (result.GetResult(output) is null)
            {
                if (!result.GetValue(keep) && !result.GetValue(release)) result.AddError("say what to do: write a file (-o FILE, or -o - for standard output), --keep or --release");
                else if (result.GetResult(compress) is not null || result.GetValue(force)) result.AddError("--compress and --force are of a file; name it with -o");
            }
            if (result.GetValue(keep) && result.GetValue(release)) result.AddError("--keep contradicts --release; choose one of them");
            if (result.GetValue(release) && result.GetResult(ranges) is not null) result.AddError("--release ends the whole snapshot; leave out --range");
            if (result.GetValue(release) && result.GetResult(maxShared) is not null) result.AddError("--release takes no snapshot; leave out --max-shared");
            if (result.GetResult(output) is not null && result.GetValue(output) is null or "") result.AddError("--output: the name is empty; name a file, or write - for standard output");
            if (result.GetValue(full) && result.GetResult(filter) is not null) result.AddError("--full contradicts --filter; choose one of them");
            if (result.GetValue(json) && result.GetValue(output) == Pipe) result.AddError("--json and the core would both go to standard output; give -o a file");
        });
        command.SetAction(parsed =>
        {
            string? name = parsed.GetValue(output);
            CoreFilter? memory = parsed.GetValue(full) ? CoreFilter.All : parsed.GetValue(filter);
            Compression kind = parsed.GetValue(compress) ?? CompressionKinds.OfName(name ?? "");
            var options = new CoreDumpOptions
            {
                Filter = memory, IncludeDontDump = parsed.GetValue(dontDump), Encoding = kind.Encoding(), Overwrite = parsed.GetValue(force),
            };
            AddressRange[] wanted = parsed.GetValue(ranges) ?? [];
            Afterwards then = parsed.GetValue(keep) ? Afterwards.Keep : parsed.GetValue(release) ? Afterwards.Release : Afterwards.AsFound;
            var capture = new SnapshotOptions
            {
                Ranges = wanted.Length == 0 ? null : [.. wanted.Select(Pages)],
                MaximumSharedBytes = parsed.GetValue(maxShared) ?? new SnapshotOptions().MaximumSharedBytes,
            };
            // A snapshot that is kept may be wanted for more than a core with the process's own filter.
            if (then != Afterwards.Keep || memory is not null) capture = Limited(capture, memory ?? CoreFilters.Of(parsed.GetValue(pid)), options.IncludeDontDump);
            return name is null ? KeepOrRelease(parsed.GetValue(pid), then, capture, parsed.GetValue(json))
                : Run(parsed.GetValue(pid), name, kind, capture, options, then, parsed.GetValue(json));
        });
        return command;
    }

    /// <summary>What becomes of the snapshot when the file is written: one that was kept already stays, another ends.</summary>
    private enum Afterwards
    {
        AsFound,
        Keep,
        Release,
    }

    private static int KeepOrRelease(int pid, Afterwards then, SnapshotOptions options, bool json)
    {
        using ProcessSnapshot snapshot = Take(pid, options, then);
        string[] notes = [.. snapshot.Notes, .. Unmapped(snapshot, options)];
        Finish(snapshot, then);
        bool told = TryTell(() =>
        {
            if (json) JsonOutput.Write(KeptReport.From(snapshot, then == Afterwards.Release, notes), JsonOutput.Plain.KeptReport);
            else if (then == Afterwards.Keep) Console.Out.Write(DescribeKept(snapshot, notes));
        });
        return told ? ExitCode.Done : FailToTell(then == Afterwards.Keep ? Invariant($"process {snapshot.KeeperPid} keeps the snapshot") : "the snapshot is released");
    }

    /// <summary>What of the ranges that were asked for is not mapped, as notes.</summary>
    /// <exception cref="PvmmapException">EFAULT: one of them is not mapped at all.</exception>
    private static IEnumerable<string> Unmapped(ProcessSnapshot snapshot, SnapshotOptions options)
    {
        List<PageRange> gaps = [];
        foreach (PageRange wanted in options.Ranges ?? [])
        {
            IReadOnlyList<PageRange> mapped = RangeSet.Joined(snapshot.Ranges.Select(range => wanted.Intersect(range.Range)));
            if (mapped.Count == 0) throw new PvmmapException(Errno.EFAULT, "take a range", snapshot.Identity.ProcessId, wanted, "nothing is mapped there; look at it with 'pvmmap map'");
            gaps.AddRange(RangeSet.Without(wanted, mapped));
        }
        return gaps.Count == 0 ? [] : [$"{Amount(gaps)} of what was asked for is not mapped: {Places(gaps)}"];
    }

    /// <summary>Writes to standard output; false if nobody can.</summary>
    private static bool TryTell(Action write)
    {
        try
        {
            write();
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    private static int FailToTell(string done) => Failure.Write($"snapshot: {done}, but that could not be told: standard output is closed, or cannot be written to");

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    private static ProcessSnapshot Take(int pid, SnapshotOptions options, Afterwards then)
    {
        if (then == Afterwards.Release) return ProcessSnapshot.Open(pid);
        if (KeptSnapshot.TryOpen(pid) is not { } kept) return ProcessSnapshot.Capture(pid, options);
        if (options.Ranges is null) return kept;
        kept.Dispose();
        throw new PvmmapException(Errno.EINVAL, "take a range", pid, hint: "it keeps a snapshot, which is written as a whole; give --range when the snapshot is taken");
    }

    private static void Finish(ProcessSnapshot snapshot, Afterwards then)
    {
        if (then == Afterwards.Keep) snapshot.Detach();
        else if (then == Afterwards.Release) snapshot.Release();
    }

    private static string DescribeKept(ProcessSnapshot snapshot, IEnumerable<string> notes) => string.Create(CultureInfo.InvariantCulture,
        $"snapshot of process {snapshot.Identity.ProcessId} kept by process {snapshot.KeeperPid}, until 'pvmmap snapshot {snapshot.KeeperPid} --release'\n"
        + $"process stopped {Figures.Duration(snapshot.StopTime)}\n{Lines(notes)}");

    private static int Run(int pid, string name, Compression kind, SnapshotOptions capture, CoreDumpOptions options, Afterwards then, bool json)
    {
        bool toPipe = name == Pipe;
        if (toPipe && !Console.IsOutputRedirected)
        {
            Failure.Write("snapshot: standard output is a terminal, which a core file would garble; redirect it, or name a file with -o");
            return ExitCode.Usage;
        }

        using var interruption = toPipe ? null : new Interruption();
        CancellationToken cancellation = interruption?.Token ?? CancellationToken.None;
        try
        {
            // What is wrong with the file's name is said before the process is stopped.
            using NewFile? file = toPipe ? null : NewFile.Begin(name, options.Overwrite);
            using ProcessSnapshot snapshot = Take(pid, capture, then);
            string[] notes = [.. snapshot.Notes, .. Unmapped(snapshot, capture)];
            CoreDumpResult result = Console.IsErrorRedirected
                ? Write(snapshot, file, options, null, cancellation)
                : FillProgress.Show("writing", 1, task => Write(snapshot, file, options, new Display(task), cancellation));
            Finish(snapshot, then);
            int of = snapshot.Identity.ProcessId;
            bool kept = then == Afterwards.Keep;
            if (toPipe)
            {
                Console.Error.Write(Lines([.. notes, .. Notes(result)]));
                if (kept) Console.Error.Write(DescribeKept(snapshot, []));
                return Warn(result);
            }
            bool told = TryTell(() =>
            {
                if (json) JsonOutput.Write(Report.From(of, kept ? snapshot.KeeperPid : null, name, kind, snapshot.StopTime, notes, result), JsonOutput.Plain.SnapshotReport);
                else Console.Out.Write(Describe(of, name, snapshot.StopTime, [.. notes, .. Notes(result)], result) + (kept ? DescribeKept(snapshot, []) : ""));
            });
            return told ? Warn(result) : FailToTell($"{name} is whole{(kept ? Invariant($" and process {snapshot.KeeperPid} keeps the snapshot") : "")}");
        }
        catch (OperationCanceledException)
        {
            return Failure.Write("snapshot: interrupted; nothing was written");
        }
    }

    /// <summary>Of shared memory, which is copied in the stop, no more than the core will hold.</summary>
    private static SnapshotOptions Limited(SnapshotOptions capture, CoreFilter filter, bool dontDump) =>
        capture with { SharedMemory = (filter & CoreFilters.Shared) != 0, SharedKinds = filter, SharedDontDump = dontDump };

    private static PageRange Pages(AddressRange range) => PageRange.TryRoundOutward(range.Start, range.Length, out PageRange pages)
        ? pages : throw new PvmmapException(Errno.EINVAL, "snapshot", hint: $"no memory ends at {Figures.Hex(range.Start + range.Length)}; give a smaller range");

    private static CoreDumpResult Write(
        ProcessSnapshot snapshot, NewFile? file, CoreDumpOptions options, IProgress<CoreDumpProgress>? progress, CancellationToken cancellation)
    {
        if (file is not null) return CoreDump.Write(snapshot, file, options, progress, cancellation);

        using var descriptor = new FileDescriptor(1);
        using var output = new DescriptorStream(descriptor, "standard output", seekable: false);
        CoreDumpResult result;
        if (options.Encoding is null)
        {
            result = CoreDump.Write(snapshot, output, options, progress, cancellation);
        }
        else
        {
            using Stream encoded = options.Encoding(output);
            result = CoreDump.Write(snapshot, encoded, options, progress, cancellation);
        }
        return result with { OutputBytes = output.BytesWritten };
    }

    private static string Describe(int pid, string name, TimeSpan stopTime, IReadOnlyList<string> notes, CoreDumpResult result)
    {
        var text = new StringWriter { NewLine = "\n" };
        string stored = result.OutputBytes is { } bytes && bytes != result.MemoryBytes ? $", {Figures.Bytes(bytes)} written" : "";
        text.WriteLine($"{Figures.Bytes(result.MemoryBytes)} of process {pid} in {name}{stored}");
        text.WriteLine($"process stopped {Figures.Duration(stopTime)}, file written in {Figures.Duration(result.Time)} "
            + $"({Figures.Bytes((ulong)(result.MemoryBytes / Math.Max(result.Time.TotalSeconds, 1e-6)))}/s)");
        text.Write(Lines(notes));
        return text.ToString();
    }

    private static string Lines(IEnumerable<string> notes) => string.Concat(notes.Select(note => $"note: {note}\n"));

    /// <summary>What the file does not have.</summary>
    private static IEnumerable<string> Notes(CoreDumpResult result)
    {
        foreach (SnapshotRange missing in result.Missing) yield return $"{missing}: not in the file: {missing.Reason}";
        PageRange[] lost = [.. result.Unreadable.SelectMany(range => RangeSet.Without(range, result.WrittenAsZeros))];
        if (lost.Length != 0) yield return $"{Amount(lost)} cannot be read by anyone and is not in the file: {Places(lost)}";
    }

    private static int Warn(CoreDumpResult result) => !result.UnreadableAsZeros ? ExitCode.Done : Failure.Write(
        $"snapshot: {Amount(result.WrittenAsZeros)} could not be read, and zeros stand for it: {Places(result.WrittenAsZeros)}; "
        + "written to a plain file it is told apart from zeros");

    private static string Amount(IReadOnlyList<PageRange> ranges) => Figures.Bytes(ranges.Aggregate(0UL, (sum, range) => sum + range.Length));

    private static string Places(IReadOnlyList<PageRange> ranges)
    {
        const int most = 4;
        return string.Join(", ", ranges.Take(most)) + (ranges.Count > most ? string.Create(CultureInfo.InvariantCulture, $" and {ranges.Count - most} more") : "");
    }

    /// <summary>Ctrl-C and what else ends a program ask it to stop, so that nothing is left behind.</summary>
    private sealed class Interruption : IDisposable
    {
        private readonly CancellationTokenSource _source = new();
        private readonly PosixSignalRegistration[] _signals;

        public Interruption() => _signals = [.. ((PosixSignal[])[PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP, PosixSignal.SIGQUIT])
            .Select(signal => PosixSignalRegistration.Create(signal, Cancel))];

        public CancellationToken Token => _source.Token;

        public void Dispose()
        {
            foreach (PosixSignalRegistration signal in _signals) signal.Dispose();
            _source.Dispose();
        }

        private void Cancel(PosixSignalContext context)
        {
            context.Cancel = true;
            _source.Cancel();
        }
    }

    private sealed class Display(ProgressTask task) : IProgress<CoreDumpProgress>
    {
        void IProgress<CoreDumpProgress>.Report(CoreDumpProgress value)
        {
            task.MaxValue = Math.Max(value.BytesTotal, 1);
            task.Value = value.BytesDone;
        }
    }

    /// <summary>What --json prints.</summary>
    internal sealed record Report(
        int Pid, int? KeeperPid, string File, string Compression, double StopTimeUs, double WriteTimeUs, ulong MemoryBytes, ulong CoreBytes, ulong? OutputBytes,
        int Segments, int Threads, IReadOnlyList<RangeRow> Unreadable, IReadOnlyList<RangeRow> Missing, IReadOnlyList<string> Notes)
    {
        public static Report From(int pid, int? keeper, string file, Compression kind, TimeSpan stopTime, IReadOnlyList<string> notes, CoreDumpResult result) => new(
            pid, keeper, Path.GetFullPath(file), kind.Word(), stopTime.TotalMicroseconds, result.Time.TotalMicroseconds, result.MemoryBytes, result.CoreBytes,
            result.OutputBytes, result.Segments, result.Threads,
            [.. result.Unreadable.Select(range => new RangeRow(Figures.Hex(range.Start), Figures.Hex(range.End), null, null))],
            [.. result.Missing.Select(range => new RangeRow(Figures.Hex(range.Range.Start), Figures.Hex(range.Range.End), range.Name, range.Reason))], notes);
    }

    /// <summary>What --json prints of a snapshot that no file is written of.</summary>
    internal sealed record KeptReport(int Pid, int KeeperPid, bool Released, double StopTimeUs, DateTimeOffset TakenAt, IReadOnlyList<string> Notes)
    {
        public static KeptReport From(ProcessSnapshot snapshot, bool released, IReadOnlyList<string> notes) => new(
            snapshot.Identity.ProcessId, snapshot.KeeperPid, released, snapshot.StopTime.TotalMicroseconds, snapshot.TakenAt, notes);
    }

    internal sealed record RangeRow(string Start, string End, string? Name, string? Reason);
}
