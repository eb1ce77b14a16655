using System.CommandLine;
using System.Globalization;
using System.Runtime.InteropServices;
using Pvmmap.Linux;
using Pvmmap.Snapshots;
using Spectre.Console;

namespace Pvmmap.Cli;

/// <summary><c>pvmmap snapshot</c>: a process's core file, for which it stands still no longer than a fork takes.</summary>
internal static class SnapshotCommand
{
    private const string Pipe = "-";

    public static Command Create()
    {
        var pid = new Argument<int>("PID") { Description = "Process to take; it goes on while the file is written.", CustomParser = ValueParsers.Pid };
        var output = new Option<string>("--output", "-o")
        {
            Description = "File to write, or '-' for standard output. It has its name only when it is whole; Ctrl-C leaves nothing.",
            HelpName = "FILE",
            Required = true,
        };
        var compress = new Option<Compression?>("--compress")
        {
            Description = "gzip, zstd or none; else the name decides: .gz, .zst.",
            HelpName = "KIND",
            CustomParser = CompressionKinds.Parse,
        };
        var filter = new Option<CoreFilter?>("--filter")
        {
            Description = "Which memory, in the bits of core(5), 0x0 to 0x1ff; else as the process's own coredump_filter says.",
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
        var force = new Option<bool>("--force") { Description = "Replace the file if it is there." };
        Option<bool> json = CommonOptions.Json();
        var command = new Command("snapshot", "Write a core file of a process that goes on running: for gdb, lldb and the like.")
        {
            pid, output, compress, filter, full, dontDump, ranges, force, json,
        };
        command.Validators.Add(result =>
        {
            if (result.GetValue(full) && result.GetResult(filter) is not null) result.AddError("--full contradicts --filter; choose one of them");
            if (result.GetValue(json) && result.GetValue(output) == Pipe) result.AddError("--json and the core would both go to standard output; give -o a file");
        });
        command.SetAction(parsed =>
        {
            string name = parsed.GetValue(output)!;
            CoreFilter? memory = parsed.GetValue(full) ? CoreFilter.All : parsed.GetValue(filter);
            Compression kind = parsed.GetValue(compress) ?? CompressionKinds.OfName(name);
            var options = new CoreDumpOptions
            {
                Filter = memory, IncludeDontDump = parsed.GetValue(dontDump), Encoding = kind.Encoding(), Overwrite = parsed.GetValue(force),
            };
            return Run(parsed.GetValue(pid), name, kind, parsed.GetValue(ranges) ?? [], options, parsed.GetValue(json));
        });
        return command;
    }

    private static int Run(int pid, string name, Compression kind, AddressRange[] ranges, CoreDumpOptions options, bool json)
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
            TimeSpan stopTime;
            IReadOnlyList<string> notes;
            CoreDumpResult result;
            using (ProcessSnapshot snapshot = ProcessSnapshot.Capture(pid, Wanted(ranges, options)))
            {
                (stopTime, notes) = (snapshot.StopTime, snapshot.Notes);
                result = Console.IsErrorRedirected
                    ? Write(snapshot, file, options, null, cancellation)
                    : FillProgress.Show("writing", 1, task => Write(snapshot, file, options, new Display(task), cancellation));
            }
            if (json) JsonOutput.Write(Report.From(pid, name, kind, stopTime, notes, result), JsonOutput.Plain.SnapshotReport);
            else if (!toPipe) Console.Out.Write(Describe(pid, name, stopTime, notes, result));
            return Warn(result);
        }
        catch (OperationCanceledException)
        {
            return Failure.Write("snapshot: interrupted; nothing was written");
        }
    }

    private static SnapshotOptions Wanted(AddressRange[] ranges, CoreDumpOptions options) => new()
    {
        Ranges = ranges.Length == 0 ? null : [.. ranges.Select(Pages)],
        SharedMemory = options.Filter is not { } filter || (filter & ~(CoreFilter.AnonymousPrivate | CoreFilter.MappedPrivate | CoreFilter.ElfHeaders)) != 0,
    };

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
        foreach (string note in notes) text.WriteLine($"note: {note}");
        foreach (SnapshotRange missing in result.Missing) text.WriteLine($"note: {missing}: not in the file: {missing.Reason}");
        if (result is { Unreadable.Count: not 0, UnreadableAsZeros: false })
            text.WriteLine($"note: {Amount(result.Unreadable)} cannot be read by anyone and is not in the file: {Places(result.Unreadable)}");
        return text.ToString();
    }

    private static int Warn(CoreDumpResult result) => !result.UnreadableAsZeros ? ExitCode.Done : Failure.Write(
        $"snapshot: {Amount(result.Unreadable)} could not be read, and zeros stand for it: {Places(result.Unreadable)}; "
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
        int Pid, string File, string Compression, double StopTimeUs, double WriteTimeUs, ulong MemoryBytes, ulong CoreBytes, ulong? OutputBytes,
        int Segments, int Threads, IReadOnlyList<RangeRow> Unreadable, IReadOnlyList<RangeRow> Missing, IReadOnlyList<string> Notes)
    {
        public static Report From(int pid, string file, Compression kind, TimeSpan stopTime, IReadOnlyList<string> notes, CoreDumpResult result) => new(
            pid, Path.GetFullPath(file), kind.Word(), stopTime.TotalMicroseconds, result.Time.TotalMicroseconds, result.MemoryBytes, result.CoreBytes,
            result.OutputBytes, result.Segments, result.Threads,
            [.. result.Unreadable.Select(range => new RangeRow(Figures.Hex(range.Start), Figures.Hex(range.End), null, null))],
            [.. result.Missing.Select(range => new RangeRow(Figures.Hex(range.Range.Start), Figures.Hex(range.Range.End), range.Name, range.Reason))], notes);
    }

    internal sealed record RangeRow(string Start, string End, string? Name, string? Reason);
}
