using System.Globalization;

namespace Pvmmap;

/// <summary>A call that failed. Both processes are as they were before it, unless <see cref="Hint"/> says otherwise.</summary>
public sealed class PvmmapException : Exception
{
    /// <summary>Makes the exception; the message is one line: operation, process, range, error, hint.</summary>
    public PvmmapException(Errno errno, string operation, int pid = 0, PageRange? range = null, string? hint = null)
        : base(Describe(errno, operation, pid, range, hint))
    {
        Errno = errno;
        Operation = operation;
        Pid = pid;
        Range = range;
        Hint = hint;
        HResult = (int)errno;
    }

    /// <summary>The error of docs/process_vm_mmap.2.md that fits.</summary>
    public Errno Errno { get; }

    /// <summary>What was being done, for instance "stop the source".</summary>
    public string Operation { get; }

    /// <summary>The process it was being done to; 0 when none is meant.</summary>
    public int Pid { get; }

    /// <summary>The range it was being done to.</summary>
    public PageRange? Range { get; }

    /// <summary>Why it failed and what to do.</summary>
    public string? Hint { get; }

    private static string Describe(Errno errno, string operation, int pid, PageRange? range, string? hint)
    {
        string text = operation;
        if (pid != 0) text += string.Create(CultureInfo.InvariantCulture, $" (process {pid})");
        if (range is { } r) text += $" [{r}]";
        text += $": {errno}";
        return hint is null ? text : $"{text}: {hint}";
    }
}
