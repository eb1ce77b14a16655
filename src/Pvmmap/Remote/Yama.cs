using System.Globalization;
using Pvmmap.Linux;

namespace Pvmmap.Remote;

/// <summary>What a tracer is to its tracee, as Yama sees it.</summary>
internal enum TracerRelation
{
    /// <summary>Neither of the following.</summary>
    Stranger,

    /// <summary>The tracee descends from the tracer.</summary>
    Ancestor,

    /// <summary>By PR_SET_PTRACER the tracee has named the tracer, or one of its ancestors, or everybody.</summary>
    Named,
}

/// <summary>
/// The rules of kernel.yama.ptrace_scope (security/yama/yama_lsm.c, yama_ptrace_access_check()), which hold for ptrace(2), process_vm_readv(2),
/// pidfd_getfd(2) and /proc/PID/mem, on top of the usual ones.
/// </summary>
internal static class Yama
{
    public const int Disabled = 0;
    public const int Relational = 1;
    public const int CapabilityOnly = 2;
    public const int NoAttach = 3;

    /// <summary>Whether a process may trace another.</summary>
    /// <param name="scope">The level; null: Yama is not active. What the kernel does not know it takes for <see cref="NoAttach"/>.</param>
    /// <param name="relation">Of the process that asks: for the call's tracer, a new process that the caller starts, <see cref="TracerRelation.Ancestor"/>
    /// is never the case, and <see cref="TracerRelation.Named"/> is if it is for the caller.</param>
    /// <param name="capable">It has CAP_SYS_PTRACE in the user namespace of the other.</param>
    public static bool Allows(int? scope, TracerRelation relation, bool capable) => scope switch
    {
        null or Disabled => true,
        Relational => capable || relation != TracerRelation.Stranger,
        CapabilityOnly => capable,
        _ => false,
    };

    /// <summary>What to do where it does not allow it.</summary>
    public static string Cure(int scope) => scope switch
    {
        Relational => "run as root or with CAP_SYS_PTRACE, or let the process name the caller by prctl(PR_SET_PTRACER), or: sysctl kernel.yama.ptrace_scope=0",
        CapabilityOnly => "run as root or with CAP_SYS_PTRACE, or: sysctl kernel.yama.ptrace_scope=0",
        _ => "set kernel.yama.ptrace_scope lower in /etc/sysctl.d and restart the machine; at 3 it cannot be lowered",
    };

    /// <summary>The level of this machine; null where Yama is not active.</summary>
    public static int? Scope =>
        Files.TryReadText("/proc/sys/kernel/yama/ptrace_scope") is { } text ? int.Parse(text, NumberStyles.AllowTrailingWhite, CultureInfo.InvariantCulture) : null;
}
