using System.Text;

namespace Pvmmap.Procfs;

/// <summary>/proc/PID/stat of a process or one of its threads: what is cheaper to have here than in status, or not there.</summary>
internal sealed record ProcessStat
{
    private const ulong PF_KTHREAD = 0x00200000;

    /// <summary>The command name, at most 15 bytes.</summary>
    public string Name { get; init; } = "";

    /// <summary>The parent's process id, field 4.</summary>
    public int ParentId { get; init; }

    /// <summary>Process group, field 5.</summary>
    public int GroupId { get; init; }

    /// <summary>Session, field 6.</summary>
    public int SessionId { get; init; }

    /// <summary>Clock ticks in user mode and in the kernel, fields 14 and 15.</summary>
    public ulong UserTicks { get; init; }

    public ulong SystemTicks { get; init; }

    /// <summary>The same of the children that were waited for, fields 16 and 17.</summary>
    public ulong ChildrenUserTicks { get; init; }

    public ulong ChildrenSystemTicks { get; init; }

    /// <summary>Nice value, field 19.</summary>
    public int Nice { get; init; }

    /// <summary>Of the signals 1 to 31, those pending for the thread: bit n-1 is signal n. Field 31.</summary>
    public ulong Pending { get; init; }

    /// <summary>Kernel flags word of the task, field 9.</summary>
    public ulong Flags { get; init; }

    /// <summary>Clock ticks from boot to the start of the process, field 22: with the pid it names a process for good.</summary>
    public ulong StartTime { get; init; }

    public bool IsKernelThread => (Flags & PF_KTHREAD) != 0;

    /// <exception cref="FormatException">Not a line that the kernel writes.</exception>
    public static ProcessStat Parse(ReadOnlySpan<byte> text)
    {
        // The name in field 2 may hold blanks and parentheses of its own; no later field holds any.
        int first = text.IndexOf((byte)'('), name = text.LastIndexOf((byte)')');
        if (first < 0 || name < first) throw new ProcText(text).Malformed();
        var fields = new ProcText(text[(name + 1)..]);
        fields.Word();
        int parent = fields.Int32(), group = fields.Int32(), session = fields.Int32();
        for (int field = 7; field < 9; field++) fields.Word();
        ulong flags = fields.Decimal();
        for (int field = 10; field < 14; field++) fields.Word();
        ulong user = fields.Decimal(), system = fields.Decimal(), childrenUser = fields.Decimal(), childrenSystem = fields.Decimal();
        fields.Word();
        int nice = fields.Int32();
        for (int field = 20; field < 22; field++) fields.Word();
        ulong started = fields.Decimal();
        for (int field = 23; field < 31; field++) fields.Word();
        return new ProcessStat
        {
            Name = Encoding.UTF8.GetString(text[(first + 1)..name]),
            ParentId = parent,
            GroupId = group,
            SessionId = session,
            Flags = flags,
            UserTicks = user,
            SystemTicks = system,
            ChildrenUserTicks = childrenUser,
            ChildrenSystemTicks = childrenSystem,
            Nice = nice,
            StartTime = started,
            Pending = fields.Rest.IsEmpty ? 0 : fields.Decimal(),
        };
    }

    /// <exception cref="PvmmapException">ESRCH.</exception>
    public static ProcessStat Read(int pid) => ProcFile.Parse(pid, "stat", Parse);

    /// <exception cref="PvmmapException">ESRCH.</exception>
    public static ProcessStat ReadThread(int pid, int tid) => ProcFile.Parse(pid, $"task/{tid}/stat", Parse);
}
