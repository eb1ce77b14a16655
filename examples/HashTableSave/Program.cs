using System.CommandLine;
using System.CommandLine.Invocation;
using HashTableSave;
using Pvmmap;

// 0 when every save is good, 1 when not or when it could not be done, 2 when the command line does not say what to do. Errors are one line each.
RootCommand root = CommandLine.Create();
ParseResult parsed = root.Parse(args);
if (parsed.Action is ParseErrorAction)
{
    Fail($"{parsed.Errors[0].Message.TrimEnd('.')}; see --help");
    return 2;
}

try
{
    return parsed.Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null });
}
catch (OperationCanceledException)
{
    return Fail("interrupted");
}
catch (InsufficientMemoryException e)
{
    return Fail(e.Message);
}
catch (OutOfMemoryException)
{
    return Fail("there is not enough memory for the table; give a smaller --size");
}
catch (UnauthorizedAccessException e)
{
    return Fail($"{e.Message} Give another --folder");
}
catch (Exception e) when (e is PvmmapException or IOException or InvalidDataException)
{
    return Fail(e.Message);
}

static int Fail(string message)
{
    Console.Error.WriteLine($"HashTableSave: {message.ReplaceLineEndings(" ").TrimEnd()}");
    return 1;
}
