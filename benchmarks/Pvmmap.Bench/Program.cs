using System.CommandLine;
using System.Diagnostics;
using System.Runtime.InteropServices;
using Pvmmap.Cli;

namespace Pvmmap.Bench;

/// <summary>
/// ./bench: measures side by side on this machine. 0 when every bound is kept, 1 when one is not or something failed, 2 for a wrong command line.
/// </summary>
internal static class Program
{
    private static IBenchmark[] All(bool full) =>
    [
        new CopyBenchmark(full), new MoveBenchmark(full), new RangeBenchmark(), new PressureBenchmark(full), new StartupBenchmark(), new SnapshotBenchmark(),
        new SnapshotLoadBenchmark(),
    ];

    private static int Main(string[] args)
    {
        ParseResult parsed = Build().Parse(args);
        if (parsed.Errors.Count > 0)
        {
            Failure.Write($"bench: {parsed.Errors[0].Message} See ./bench --help");
            return ExitCode.Usage;
        }

        try
        {
            return parsed.Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null });
        }
        catch (Exception e) when (e is PvmmapException or IOException or OperationCanceledException or UnauthorizedAccessException)
        {
            return Failure.Write(e is OperationCanceledException ? new IOException("bench: interrupted; nothing was written") : e);
        }
    }

    internal static RootCommand Build()
    {
        var names = new Argument<string[]>("NAME") { Description = "What to measure; all when none is named.", Arity = ArgumentArity.ZeroOrMore };
        names.AcceptOnlyFromAmong([.. All(full: false).Select(benchmark => benchmark.Name)]);
        var list = new Option<bool>("--list") { Description = "List the names and do nothing." };
        var results = new Option<DirectoryInfo?>("--results")
        {
            Description = "Folder for NAME.json and NAME.md; none are written without it.",
            HelpName = "DIR",
        };
        var heapApp = new Option<FileInfo?>("--heap-app") { Description = "The .NET program that the snapshots are taken of.", HelpName = "PROGRAM", Hidden = true };
        var full = new Option<bool>("--full") { Description = "Large memory, too: 1 and 4 GiB copied in every way; and all rounds, however slow the machine. It takes many minutes more." };
        var bareHandler = new Option<FileInfo?>("--bare-handler") { Description = "The userfaultfd handler that faults are compared with.", HelpName = "PROGRAM", Hidden = true };
        var bareCall = new Option<FileInfo?>("--bare-call") { Description = "The system calls that a copy's call is compared with.", HelpName = "PROGRAM", Hidden = true };
        var startupApp = new Option<FileInfo?>("--startup-app") { Description = "The program whose start is measured, compiled as it runs.", HelpName = "PROGRAM", Hidden = true };
        var startupAppAot = new Option<FileInfo?>("--startup-app-aot") { Description = "The same, compiled beforehand.", HelpName = "PROGRAM", Hidden = true };
        var root = new RootCommand("Measurements of process_vm_mmap() beside what there was before.")
        {
            names, list, full, results, heapApp, bareHandler, bareCall, startupApp, startupAppAot,
        };
        root.SetAction(parsed =>
        {
            HeapAppProcess.Program = parsed.GetValue(heapApp)?.FullName;
            (BareProgram.Handler, BareProgram.Call) = (new(parsed.GetValue(bareHandler)?.FullName), new(parsed.GetValue(bareCall)?.FullName));
            (StartupApp.Jitted, StartupApp.Compiled) = (parsed.GetValue(startupApp)?.FullName, parsed.GetValue(startupAppAot)?.FullName);
            return parsed.GetValue(list) ? List() : Run(parsed.GetValue(names)!, parsed.GetValue(full), parsed.GetValue(results));
        });
        var worker = new Command(Worker.Command, "A process with memory that does what it is told on its standard input.") { Hidden = true };
        worker.SetAction(_ =>
        {
            // Ctrl-C goes to every process of the terminal's group; who started this one ends it.
            using var sigint = PosixSignalRegistration.Create(PosixSignal.SIGINT, context => context.Cancel = true);
            return Worker.Serve(Console.In, Console.Out);
        });
        root.Add(worker);
        return root;
    }

    private static int List()
    {
        var listing = new Listing("NAME", "WHAT");
        foreach (IBenchmark benchmark in All(full: false)) listing.Add(benchmark.Name, benchmark.Description);
        Console.Out.Write(listing);
        return ExitCode.Done;
    }

    private static int Run(string[] names, bool full, DirectoryInfo? results)
    {
        // So that cgroups and swap are taken away again before the process ends.
        using var interrupted = new CancellationTokenSource();
        void Interrupt(PosixSignalContext context) => (context.Cancel, _) = (true, interrupted.CancelAsync());
        using var sigint = PosixSignalRegistration.Create(PosixSignal.SIGINT, Interrupt);
        using var sigterm = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Interrupt);
        bool met = true;
        long start = Stopwatch.GetTimestamp();
        foreach (IBenchmark benchmark in All(full).Where(benchmark => names.Length == 0 || names.Contains(benchmark.Name)))
        {
            long began = Stopwatch.GetTimestamp();
            BenchReport report = Progress.While(say => benchmark.Run(say, interrupted.Token));
            Rendering.Write(report, Terminal.Output);
            if (results is not null) ResultFiles.Write(report, results);
            met &= report.Findings.All(finding => finding.Met != false);
            Console.Out.WriteLine($"{benchmark.Name} took {Figures.Duration(Stopwatch.GetElapsedTime(began))}, all so far {Figures.Duration(Stopwatch.GetElapsedTime(start))}");
        }

        return met ? ExitCode.Done : ExitCode.Failed;
    }
}
