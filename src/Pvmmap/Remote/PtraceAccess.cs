using System.Globalization;
using Pvmmap.Linux;
using Pvmmap.Procfs;

namespace Pvmmap.Remote;

/// <summary>
/// Why the kernel refuses ptrace access (ptrace(2), "Ptrace access mode checking"; kernel/ptrace.c, __ptrace_may_access(), and cap_ptrace_access_check()).
/// Whether it does is always asked of the kernel itself: this only finds the reason.
/// </summary>
/// <param name="Caller">Who asks.</param>
/// <param name="Target">About whom.</param>
/// <param name="CallerUserNamespace">null, here and below: not to be seen.</param>
/// <param name="TargetUserNamespace">That of the target.</param>
/// <param name="Dumpable">prctl(PR_SET_DUMPABLE) of the target, as far as it can be seen.</param>
/// <param name="YamaScope">null: not active.</param>
internal sealed record PtraceAccess(
    ProcessStatus Caller, ProcessStatus Target, ulong? CallerUserNamespace, ulong? TargetUserNamespace, bool Dumpable, int? YamaScope)
{
    public const int CAP_DAC_OVERRIDE = 1;
    public const int CAP_DAC_READ_SEARCH = 2;
    public const int CAP_SYS_PTRACE = 19;

    /// <summary>What a caller needs to reach the processes of others.</summary>
    public const string Privilege = "run as root, or give the caller CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH";

    /// <summary>No process has so many descriptors: who may ask is told EBADF, who may not EPERM.</summary>
    private const int NoDescriptor = int.MaxValue;

    /// <summary>
    /// Asks the kernel, by the very rule of PTRACE_SEIZE (PTRACE_MODE_ATTACH_REALCREDS), without doing anything to the process: pidfd_getfd(2) checks it
    /// before it looks for the descriptor.
    /// </summary>
    /// <param name="tracer">Who asks; null: this process.</param>
    /// <param name="pidfd">About whom.</param>
    public static bool IsRefused(TracerProcess? tracer, FileDescriptor pidfd)
    {
        SyscallResult result = tracer is null ? Pidfd.GetFd(pidfd, NoDescriptor) : tracer.Invoke(SystemCall.SYS_pidfd_getfd, pidfd.Number, NoDescriptor);
        return result.Errno is Errno.EPERM or Errno.EACCES;
    }

    /// <summary>The hint of an EPERM: why, and what to do about it.</summary>
    public static string Describe(int pid)
    {
        try
        {
            (string why, string cure) = Read(pid).Explain();
            return $"the caller may not ptrace it: {why}; {cure}";
        }
        catch (PvmmapException e) when (e.Errno is Errno.ESRCH or Errno.EPERM)
        {
            return "the caller may not ptrace it: equal user ids, or CAP_SYS_PTRACE";
        }
    }

    /// <exception cref="PvmmapException">ESRCH, EPERM.</exception>
    public static PtraceAccess Read(int pid) => Read(Environment.ProcessId, pid);

    /// <summary>
    /// Whether one process, neither of them this one, could trace another by who they are: the kernel cannot be asked. Yama is left out, for it only asks whether they are related.
    /// False too when one of them has ended.
    /// </summary>
    public static bool IsAllowed(int caller, int pid)
    {
        PtraceAccess access;
        try
        {
            access = Read(caller, pid);
        }
        catch (PvmmapException e) when (e.Errno is Errno.ESRCH or Errno.EPERM)
        {
            return false;
        }
        return access.CallerUserNamespace is not null
            && (access.IsCapable || (access.IdsMatch && access.Dumpable && (access.Target.CapPrm & ~access.Caller.CapEff) == 0 && access.CallerUserNamespace == access.TargetUserNamespace));
    }

    private static PtraceAccess Read(int caller, int pid)
    {
        ProcessStatus target = ProcessStatus.Read(pid);
        // The folder itself always shows the effective user; the files in it belong to root if the process is not dumpable (proc(5)).
        (uint, uint)? owner = Files.TryOwner(string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/stat"));
        bool dumpable = owner is null || owner == (target.EffectiveUid, target.EffectiveGid);
        return new PtraceAccess(
            ProcessStatus.Read(caller), target, ProcessPlace.Read(caller).User, ProcessPlace.Read(pid).User, dumpable, Yama.Scope);
    }

    /// <summary>True if the caller is known to have CAP_SYS_PTRACE in the user namespace of the target.</summary>
    public bool IsCapable => Has(CAP_SYS_PTRACE) && (CallerUserNamespace == ProcessPlace.InitialUser || (CallerUserNamespace is not null && CallerUserNamespace == TargetUserNamespace));

    /// <summary>Whether a process with these capabilities can read the files in /proc/PID that belong to others: mem, pagemap, auxv.</summary>
    public static bool MayReadOthers(ulong capabilities) => (capabilities & (1UL << CAP_DAC_OVERRIDE | 1UL << CAP_DAC_READ_SEARCH)) != 0;

    private bool Has(int capability) => (Caller.CapEff & 1UL << capability) != 0;

    private bool IdsMatch =>
        Caller.RealUid == Caller.FsUid && Caller.RealGid == Caller.FsGid
        && Target.RealUid == Caller.RealUid && Target.EffectiveUid == Caller.RealUid && Target.SavedUid == Caller.RealUid
        && Target.RealGid == Caller.RealGid && Target.EffectiveGid == Caller.RealGid && Target.SavedGid == Caller.RealGid;

    /// <summary>The first rule that it fails, in the kernel's order, and the cure.</summary>
    public (string Why, string Cure) Explain()
    {
        bool away = CallerUserNamespace is not null && CallerUserNamespace != ProcessPlace.InitialUser && CallerUserNamespace != TargetUserNamespace;
        (string, string) abroad = ("the caller is in a user namespace of its own (a container), where its capabilities end, and the process is in another one",
            "call from outside of the container, as root or with CAP_SYS_PTRACE, or from a process in the other's user namespace or an ancestor of it");
        if (!IsCapable)
        {
            if (away && Has(CAP_SYS_PTRACE)) return abroad;
            if (!IdsMatch) return (DescribeIds(), $"run as that user and group, or {Privilege}");
            if (!Dumpable) return ("it is not dumpable (prctl(PR_SET_DUMPABLE), or it has changed its user or was started from a file that is setuid, has capabilities or cannot be read)", Privilege);
            if ((Target.CapPrm & ~Caller.CapEff) != 0)
            {
                return (string.Create(CultureInfo.InvariantCulture,
                    $"it has capabilities that the caller lacks (its permitted set is {Target.CapPrm:x}, the caller's effective set {Caller.CapEff:x}), or is in another user namespace"), Privilege);
            }
            if (away) return abroad;
        }
        else if (!(IdsMatch && Dumpable) && !MayReadOthers(Caller.CapEff))
        {
            return ("the files in its /proc folder, which are another user's, take CAP_DAC_READ_SEARCH besides CAP_SYS_PTRACE", Privilege);
        }
        if (!Yama.Allows(YamaScope, TracerRelation.Stranger, IsCapable))
            return (string.Create(CultureInfo.InvariantCulture, $"kernel.yama.ptrace_scope is {YamaScope}"), Yama.Cure(YamaScope!.Value));
        return ("a security module (AppArmor, SELinux, Smack, Landlock) or a seccomp filter of the caller's forbids it",
            "see its log (dmesg, ausearch -m avc), and let its policy allow ptrace from the caller to the process");
    }

    private string DescribeIds() => string.Create(CultureInfo.InvariantCulture,
        $"its user ids are {Target.RealUid}, {Target.EffectiveUid}, {Target.SavedUid} (real, effective, saved) and its group ids {Target.RealGid}, {Target.EffectiveGid}, {Target.SavedGid}, ")
        + (Caller.RealUid == Caller.FsUid && Caller.RealGid == Caller.FsGid
            ? string.Create(CultureInfo.InvariantCulture, $"the caller's are {Caller.RealUid} and {Caller.RealGid}, and all have to be equal")
            : string.Create(CultureInfo.InvariantCulture,
                $"the caller's are {Caller.RealUid} and {Caller.RealGid}, for files {Caller.FsUid} and {Caller.FsGid}, and all have to be equal"));
}
