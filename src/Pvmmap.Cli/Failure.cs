namespace Pvmmap.Cli;

/// <summary>Errors as the user sees them: one line on standard error, "pvmmap: what: why; what to do".</summary>
internal static class Failure
{
    public static int Write(string message)
    {
        Console.Error.WriteLine($"pvmmap: {OneLine(message)}");
        return ExitCode.Failed;
    }

    public static int Write(Exception exception) => Write(Describe(exception));

    internal static string Describe(Exception exception) => exception switch
    {
        // A hint of the library says more about this case than the general advice below.
        PvmmapException { Hint: not null } e => e.Message,
        PvmmapException e => $"{e.Message}{Advice(e.Errno)}",
        UnauthorizedAccessException e => $"{e.Message} Run it as a user who may read that",
        IOException e => e.Message,
        _ => $"unexpected {exception.GetType().Name}: {exception.Message}",
    };

    private static string Advice(Errno errno) => errno switch
    {
        Errno.EPERM => ": the caller may not ptrace this process; run it as root or as the same user",
        Errno.ESRCH => ": no such process; look for it with ps",
        Errno.EBUSY => ": another process traces it; detach the debugger",
        Errno.EFAULT => ": part of the range is not mapped, or is special memory; look at it with 'pvmmap map'",
        Errno.EEXIST => ": something is mapped there; choose another address, or replace it with --fixed",
        Errno.ENOMEM => ": no room in that process; see its limits (RLIMIT_AS, vm.max_map_count, overcommit)",
        Errno.EAGAIN => ": no process can be created; see RLIMIT_NPROC and pids.max",
        Errno.EOPNOTSUPP => ": another userfaultfd guards this range",
        Errno.ENOSYS => ": something is missing here; see 'pvmmap doctor'",
        _ => "",
    };

    private static string OneLine(string text) => text.ReplaceLineEndings(" ").TrimEnd();
}
