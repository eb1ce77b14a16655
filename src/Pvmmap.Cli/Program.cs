using System.CommandLine;
using System.CommandLine.Invocation;

namespace Pvmmap.Cli;

/// <summary>The tool: 0 when done, 1 when it could not be done, 2 when the command line does not say what to do. Errors are one line each.</summary>
internal static class Program
{
    private static int Main(string[] args)
    {
        RootCommand root = Build();
        ParseResult parsed = root.Parse(args);
        if (parsed.Action is ParseErrorAction)
        {
            Failure.Write(DescribeUsage(parsed));
            return ExitCode.Usage;
        }

        try
        {
            // Each command says itself what Ctrl-C does to it; until it does, the signal ends the process as usual.
            return parsed.Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null });
        }
        catch (PvmmapException e)
        {
            return Failure.Write(e);
        }
#pragma warning disable CA1031 // The user gets one line, whatever it was.
        catch (Exception e)
#pragma warning restore CA1031
        {
            return Failure.Write(e is AggregateException { InnerException: { } inner } ? inner : e);
        }
    }

    /// <summary>All commands, those that only the demo starts included.</summary>
    internal static RootCommand Build() => new("Duplicate memory between live processes: process_vm_mmap() from user space.")
    {
        MapCommand.Create(),
        MmapCommand.CreateCopy(),
        MmapCommand.CreateMove(),
        SnapshotCommand.Create(),
        PsCommand.Create(),
        DoctorCommand.Create(),
        HeapCommand.Create(),
        Demo.DemoCommand.Create(),
        Demo.PageServer.CreateCommand(),
        Demo.RestoreTarget.CreateCommand(),
    };

    /// <summary>The first thing wrong with a command line, and what to do about it.</summary>
    internal static string DescribeUsage(ParseResult parsed)
    {
        Command command = parsed.CommandResult.Command;
        string name = command is RootCommand ? "" : command.Name;
        string error = parsed.Errors[0].Message.TrimEnd('.');
        if (!error.Contains(';', StringComparison.Ordinal)) error += $"; see 'pvmmap {name}{(name.Length == 0 ? "" : " ")}--help'";
        return name.Length == 0 ? error : $"{name}: {error}";
    }
}
