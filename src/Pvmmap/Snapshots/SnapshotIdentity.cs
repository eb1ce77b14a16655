namespace Pvmmap.Snapshots;

/// <summary>What identifies the process, at the instant of the snapshot.</summary>
public sealed record SnapshotIdentity
{
    /// <summary>The kernel's own.</summary>
    internal const uint DefaultCoreDumpFilter = 0x33;

    /// <summary>Process id, in the caller's pid namespace.</summary>
    public required int ProcessId { get; init; }

    /// <summary>Its parent's.</summary>
    public int ParentId { get; init; }

    /// <summary>Process group.</summary>
    public int GroupId { get; init; }

    /// <summary>Session.</summary>
    public int SessionId { get; init; }

    /// <summary>Real user id.</summary>
    public uint UserId { get; init; }

    /// <summary>Real group id.</summary>
    public uint UserGroupId { get; init; }

    /// <summary>State letter of proc_pid_stat(5), just before the snapshot.</summary>
    public char State { get; init; }

    /// <summary>Nice value, -20 to 19.</summary>
    public int Nice { get; init; }

    /// <summary>Kernel flags word of the task (PF_*).</summary>
    public ulong Flags { get; init; }

    /// <summary>Clock ticks from boot to the start of the process: with the id it names a process for good.</summary>
    public ulong StartTime { get; init; }

    /// <summary>Processor time in user mode of its children that have been waited for.</summary>
    public TimeSpan ChildrenUserTime { get; init; }

    /// <summary>The same, in the kernel.</summary>
    public TimeSpan ChildrenSystemTime { get; init; }

    /// <summary>The program's short name (comm), at most 15 bytes.</summary>
    public string Name { get; init; } = "";

    /// <summary>Path of the program (/proc/PID/exe); empty if it cannot be told.</summary>
    public string Executable { get; init; } = "";

    /// <summary>The command line, argument by argument.</summary>
    public IReadOnlyList<string> CommandLine { get; init; } = [];

    /// <summary>coredump_filter of core(5).</summary>
    public uint CoreDumpFilter { get; init; }
}
