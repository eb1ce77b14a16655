using System.Text;
using Pvmmap.Linux;

namespace Pvmmap.Procfs;

/// <summary>/proc/PID/status of a process or one of its threads. Amounts are in bytes, 0 where the process has no memory of its own.</summary>
internal sealed record ProcessStatus
{
    /// <summary>The command name, at most 15 bytes.</summary>
    public string Name { get; init; } = "";

    /// <summary>R, S, D, T (stopped), t (stopped by its tracer), Z (zombie), X (dead), I (idle kernel thread).</summary>
    public char State { get; init; }

    /// <summary>The thread group: what getpid() returns there, in the pid namespace of this /proc.</summary>
    public int Tgid { get; init; }

    public int Pid { get; init; }

    public int PPid { get; init; }

    /// <summary>The thread that traces this one; 0 when none does, or when it is in a pid namespace that this /proc cannot see.</summary>
    public int TracerPid { get; init; }

    public uint RealUid { get; init; }

    public uint EffectiveUid { get; init; }

    public uint SavedUid { get; init; }

    /// <summary>The user id that file access is checked against; it follows the effective one unless setfsuid() was called.</summary>
    public uint FsUid { get; init; }

    public uint RealGid { get; init; }

    public uint EffectiveGid { get; init; }

    public uint SavedGid { get; init; }

    public uint FsGid { get; init; }

    public int Threads { get; init; }

    /// <summary>SECCOMP_MODE_DISABLED 0, _STRICT 1, _FILTER 2; 0 too where the kernel is built without seccomp.</summary>
    public int Seccomp { get; init; }

    /// <summary>A kernel thread. null where the line is absent (before Linux 6.8) and nothing else has answered yet.</summary>
    public bool? Kthread { get; init; }

    public bool IsKernelThread => Kthread == true;

    /// <summary>It has ended, or is being taken down: killed and not gone yet, or without memory already.</summary>
    public bool IsEnding => State is 'Z' or 'X' || (SigPnd & Signals.Bit(Signals.SIGKILL)) != 0 || (!IsKernelThread && VmPeak == 0);

    public ulong VmPeak { get; init; }

    public ulong VmHWM { get; init; }

    public ulong VmRSS { get; init; }

    /// <summary>The anonymous part of <see cref="VmRSS"/>; 0 before Linux 4.5.</summary>
    public ulong RssAnon { get; init; }

    public ulong VmSwap { get; init; }

    /// <summary>Locked bytes (mlock).</summary>
    public ulong VmLck { get; init; }

    /// <summary>Blocked signals; signal N is bit N-1, here and below.</summary>
    public ulong SigBlk { get; init; }

    /// <summary>Signals pending for this thread.</summary>
    public ulong SigPnd { get; init; }

    /// <summary>Signals pending for the whole process.</summary>
    public ulong ShdPnd { get; init; }

    /// <summary>True while the signal is pending for this thread, or for the whole process.</summary>
    public bool IsPending(int signal) => ((SigPnd | ShdPnd) & Signals.Bit(signal)) != 0;

    public ulong SigIgn { get; init; }

    public ulong SigCgt { get; init; }

    /// <summary>Permitted capabilities; capability N is bit N, here and below.</summary>
    public ulong CapPrm { get; init; }

    /// <summary>Effective capabilities.</summary>
    public ulong CapEff { get; init; }

    /// <summary>The pid in every pid namespace, from that of this /proc to the innermost; empty before Linux 4.1.</summary>
    public IReadOnlyList<int> NSpid { get; init; } = [];

    /// <exception cref="FormatException">A line is not one that the kernel writes, or a line that is always there is missing.</exception>
    public static ProcessStatus Parse(ReadOnlySpan<byte> text)
    {
        string? name = null;
        char state = '\0';
        int tgid = 0, pid = 0, ppid = 0, tracer = 0, threads = 0, seccomp = 0;
        uint realUid = 0, effectiveUid = 0, savedUid = 0, fsUid = 0, realGid = 0, effectiveGid = 0, savedGid = 0, fsGid = 0;
        bool? kthread = null;
        ulong peak = 0, hwm = 0, rss = 0, anonymous = 0, swap = 0, locked = 0, blocked = 0, pending = 0, shared = 0, ignored = 0, caught = 0, permitted = 0, capabilities = 0;
        List<int> nspid = [];
        while (ProcText.NextLine(ref text, out ReadOnlySpan<byte> lineText))
        {
            var line = new ProcText(lineText);
            ReadOnlySpan<byte> field = line.Name();
            if (field.SequenceEqual("Name"u8)) name = ParseName(line.Rest);
            else if (field.SequenceEqual("State"u8)) state = line.Word() is [byte letter] ? (char)letter : throw line.Malformed();
            else if (field.SequenceEqual("Tgid"u8)) tgid = line.Int32();
            else if (field.SequenceEqual("Pid"u8)) pid = line.Int32();
            else if (field.SequenceEqual("PPid"u8)) ppid = line.Int32();
            else if (field.SequenceEqual("TracerPid"u8)) tracer = line.Int32();
            else if (field.SequenceEqual("Uid"u8)) (realUid, effectiveUid, savedUid, fsUid) = (line.UInt32(), line.UInt32(), line.UInt32(), line.UInt32());
            else if (field.SequenceEqual("Gid"u8)) (realGid, effectiveGid, savedGid, fsGid) = (line.UInt32(), line.UInt32(), line.UInt32(), line.UInt32());
            else if (field.SequenceEqual("NSpid"u8)) nspid = ParsePids(line);
            else if (field.SequenceEqual("Kthread"u8)) kthread = line.Decimal() != 0;
            else if (field.SequenceEqual("VmPeak"u8)) peak = line.Kilobytes();
            else if (field.SequenceEqual("VmHWM"u8)) hwm = line.Kilobytes();
            else if (field.SequenceEqual("VmRSS"u8)) rss = line.Kilobytes();
            else if (field.SequenceEqual("RssAnon"u8)) anonymous = line.Kilobytes();
            else if (field.SequenceEqual("VmLck"u8)) locked = line.Kilobytes();
            else if (field.SequenceEqual("VmSwap"u8)) swap = line.Kilobytes();
            else if (field.SequenceEqual("Threads"u8)) threads = line.Int32();
            else if (field.SequenceEqual("SigPnd"u8)) pending = line.Hex();
            else if (field.SequenceEqual("ShdPnd"u8)) shared = line.Hex();
            else if (field.SequenceEqual("SigBlk"u8)) blocked = line.Hex();
            else if (field.SequenceEqual("SigIgn"u8)) ignored = line.Hex();
            else if (field.SequenceEqual("SigCgt"u8)) caught = line.Hex();
            else if (field.SequenceEqual("CapPrm"u8)) permitted = line.Hex();
            else if (field.SequenceEqual("CapEff"u8)) capabilities = line.Hex();
            else if (field.SequenceEqual("Seccomp"u8)) seccomp = line.Int32();
        }
        if (name is null || state == '\0' || pid == 0) throw new FormatException("/proc/PID/status has no Name, State or Pid");
        return new ProcessStatus
        {
            Name = name,
            State = state,
            Tgid = tgid,
            Pid = pid,
            PPid = ppid,
            TracerPid = tracer,
            RealUid = realUid,
            EffectiveUid = effectiveUid,
            SavedUid = savedUid,
            FsUid = fsUid,
            RealGid = realGid,
            EffectiveGid = effectiveGid,
            SavedGid = savedGid,
            FsGid = fsGid,
            Threads = threads,
            Seccomp = seccomp,
            Kthread = kthread,
            VmPeak = peak,
            VmHWM = hwm,
            VmRSS = rss,
            RssAnon = anonymous,
            VmSwap = swap,
            VmLck = locked,
            SigBlk = blocked,
            SigPnd = pending,
            ShdPnd = shared,
            SigIgn = ignored,
            SigCgt = caught,
            CapPrm = permitted,
            CapEff = capabilities,
            NSpid = nspid,
        };
    }

    /// <summary>The status of a process, that is of its first thread.</summary>
    /// <exception cref="PvmmapException">ESRCH.</exception>
    public static ProcessStatus Read(int pid)
    {
        ProcessStatus status = ProcFile.Parse(pid, "status", Parse);
        return status.Kthread is null ? status with { Kthread = ProcessStat.Read(pid).IsKernelThread } : status;
    }

    /// <summary>The same of one that may have ended: null then, also as long as its parent has not taken note.</summary>
    public static ProcessStatus? Find(int pid)
    {
        try
        {
            return Read(pid) is { State: not ('Z' or 'X') } status ? status : null;
        }
        catch (PvmmapException e) when (e.Errno == Errno.ESRCH)
        {
            return null;
        }
    }

    /// <summary>The status of one thread; its signal masks and its tracer are its own.</summary>
    /// <exception cref="PvmmapException">ESRCH.</exception>
    public static ProcessStatus ReadThread(int pid, int tid)
    {
        ProcessStatus status = ProcFile.Parse(pid, $"task/{tid}/status", Parse);
        return status.Kthread is null ? status with { Kthread = ProcessStat.ReadThread(pid, tid).IsKernelThread } : status;
    }

    // proc_task_name() escapes the newline and the backslash, as \n and \\.
    private static string ParseName(ReadOnlySpan<byte> text)
    {
        string name = Encoding.UTF8.GetString(text.IsEmpty || text[0] != (byte)'\t' ? text : text[1..]);
        if (!name.Contains('\\', StringComparison.Ordinal)) return name;
        var plain = new StringBuilder(name.Length);
        for (int i = 0; i < name.Length; i++)
        {
            bool escape = name[i] == '\\' && i + 1 < name.Length && (name[i + 1] is 'n' or '\\');
            plain.Append(escape ? name[++i] == 'n' ? '\n' : '\\' : name[i]);
        }
        return plain.ToString();
    }

    private static List<int> ParsePids(ProcText line)
    {
        List<int> pids = [];
        for (line.SkipBlanks(); !line.Rest.IsEmpty; line.SkipBlanks()) pids.Add(line.Int32());
        return pids;
    }
}
