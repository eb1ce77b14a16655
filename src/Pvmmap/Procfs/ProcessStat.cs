namespace Pvmmap.Procfs;

/// <summary>The two fields of /proc/PID/stat that /proc/PID/status does not have.</summary>
internal sealed record ProcessStat
{
    private const ulong PF_KTHREAD = 0x00200000;

    /// <summary>Kernel flags word of the task, field 9.</summary>
    public ulong Flags { get; init; }

    /// <summary>Clock ticks from boot to the start of the process, field 22: with the pid it names a process for good.</summary>
    public ulong StartTime { get; init; }

    public bool IsKernelThread => (Flags & PF_KTHREAD) != 0;

    /// <exception cref="FormatException">Not a line that the kernel writes.</exception>
    public static ProcessStat Parse(ReadOnlySpan<byte> text)
    {
        // The name in field 2 may hold blanks and parentheses of its own; no later field holds any.
        int name = text.LastIndexOf((byte)')');
        if (name < 0) throw new ProcText(text).Malformed();
        var fields = new ProcText(text[(name + 1)..]);
        for (int field = 3; field < 9; field++) fields.Word();
        ulong flags = fields.Decimal();
        for (int field = 10; field < 22; field++) fields.Word();
        return new ProcessStat { Flags = flags, StartTime = fields.Decimal() };
    }

    /// <exception cref="PvmmapException">ESRCH.</exception>
    public static ProcessStat Read(int pid) => ProcFile.Parse(pid, "stat", Parse);

    /// <exception cref="PvmmapException">ESRCH.</exception>
    public static ProcessStat ReadThread(int pid, int tid) => ProcFile.Parse(pid, $"task/{tid}/stat", Parse);
}
