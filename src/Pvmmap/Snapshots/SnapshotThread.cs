namespace Pvmmap.Snapshots;

/// <summary>One thread of the process at the instant of the snapshot. Registers are in the kernel's own layout, that of ptrace(2) and core dumps.</summary>
public sealed record SnapshotThread
{
    /// <summary>sizeof(siginfo_t).</summary>
    internal const int SignalInformationBytes = 128;

    /// <summary>Thread id, in the caller's pid namespace.</summary>
    public required int ThreadId { get; init; }

    /// <summary>Thread id in the innermost pid namespace that the process is in: the one that it knows itself, as gettid(2) says it.</summary>
    public required int NamespaceThreadId { get; init; }

    /// <summary>Its name (prctl PR_SET_NAME), at most 15 bytes.</summary>
    public string Name { get; init; } = "";

    /// <summary>What it was doing: "S" in a system call, "R" running its own code, "T" stopped by a signal.</summary>
    public char State { get; init; }

    /// <summary>General registers: NT_PRSTATUS, struct user_regs_struct, 216 bytes on x86-64.</summary>
    public required ReadOnlyMemory<byte> GeneralRegisters { get; init; }

    /// <summary>Floating point registers: NT_PRFPREG, struct user_fpregs_struct, 512 bytes on x86-64.</summary>
    public ReadOnlyMemory<byte> FloatingPointRegisters { get; init; }

    /// <summary>NT_X86_XSTATE: XSAVE area in its standard format; empty if the processor has none.</summary>
    public ReadOnlyMemory<byte> ExtendedState { get; init; }

    /// <summary>siginfo_t, 128 bytes: the number of the signal (SIGSTOP and its like) that it was stopped by before the snapshot; all zero for a thread that was not.</summary>
    public ReadOnlyMemory<byte> SignalInformation { get; init; }

    /// <summary>Of the signals 1 to 31, those pending for this thread: bit n-1 is signal n.</summary>
    public ulong PendingSignals { get; init; }

    /// <summary>Signals blocked: bit n-1 is signal n.</summary>
    public ulong BlockedSignals { get; init; }

    /// <summary>Processor time in user mode.</summary>
    public TimeSpan UserTime { get; init; }

    /// <summary>Processor time in the kernel.</summary>
    public TimeSpan SystemTime { get; init; }
}
