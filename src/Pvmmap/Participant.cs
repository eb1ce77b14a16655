using System.Globalization;
using Pvmmap.Linux;
using Pvmmap.Procfs;
using Pvmmap.Remote;

namespace Pvmmap;

/// <summary>A process that takes part in a call, pinned by a pidfd so that a reused number does no harm.</summary>
internal sealed class Participant : IDisposable
{
    /// <summary>A note: why a copy from a process under seccomp is no lazy one.</summary>
    public const string FilteredSource = "the source is under a seccomp filter that the holder would inherit, so the content was copied before the call returned";

    private const string LeaderHasEnded = "its main thread has ended (pthread_exit) and other threads of it have not: what /proc shows of a process, its memory "
        + "included, is its main thread's; nothing can be taken of it or brought into it";

    private readonly string role;
    private readonly ProcessStatus status;

    private Participant(int pid, string role, ProcessStatus status, FileDescriptor pidfd)
    {
        Pid = pid;
        this.role = role;
        this.status = status;
        Pidfd = pidfd;
    }

    public int Pid { get; }

    public FileDescriptor Pidfd { get; }

    /// <summary>As it was when it was opened.</summary>
    public ProcessStatus Status => status;

    /// <summary>A filter that its children inherit.</summary>
    public bool IsUnderSeccomp => status.Seccomp != 0;

    /// <summary>
    /// A SIGCHLD that the program ignores is dropped, but not when it is sent to a traced thread: then it wakes any thread of the process, whose
    /// system call fails with EINTR. So where the leader has children, stop it together with all the others.
    /// </summary>
    public bool MayHaveSigchld => status.Threads > 1 && (status.SigCgt & Signals.Bit(Signals.SIGCHLD)) == 0 && LeaderMayHaveChildren();

    /// <summary>ESRCH if there is none or it is exiting, EINVAL for a kernel thread, ENOSYS without a /proc that shows the caller's pid namespace.</summary>
    public static Participant Open(int pid, string role)
    {
        CheckProc(pid, role);
        FileDescriptor pidfd = Linux.Pidfd.Open(pid);
        try
        {
            ProcessStatus status = ReadStatus(pid, role, pidfd);
            if (status.IsKernelThread) throw new PvmmapException(Errno.EINVAL, $"find the {role}", pid, hint: "it is a kernel thread: it has no memory of its own");
            if (status is { State: 'Z', Threads: > 1 }) throw new PvmmapException(Errno.ESRCH, $"find the {role}", pid, hint: LeaderHasEnded);
            if (status.State is 'Z' or 'X') throw new PvmmapException(Errno.ESRCH, $"find the {role}", pid, hint: "it is exiting");
            return new Participant(pid, role, status, pidfd);
        }
        catch
        {
            pidfd.Dispose();
            throw;
        }
    }

    /// <summary>ENOSYS unless what /proc says of a number is about the process that the system calls know by it.</summary>
    public static void CheckProc(int pid, string role)
    {
        string? self = Files.TryReadLink("/proc/self");
        if (self == Environment.ProcessId.ToString(CultureInfo.InvariantCulture)) return;
        throw new PvmmapException(Errno.ENOSYS, $"find the {role}", pid, hint: self is null
            ? "/proc is not mounted; mount -t proc proc /proc"
            : "/proc shows another pid namespace than the caller's, so that its numbers mean other processes; mount -t proc proc /proc");
    }

    private static ProcessStatus ReadStatus(int pid, string role, FileDescriptor pidfd)
    {
        try
        {
            return ProcessStatus.Read(pid);
        }
        catch (PvmmapException e) when (e.Errno is Errno.ESRCH or Errno.EPERM && !Linux.Pidfd.HasEnded(pidfd))
        {
            throw new PvmmapException(Errno.EPERM, $"find the {role}", pid,
                hint: "/proc hides it from the caller (mounted with hidepid); run as root or with CAP_SYS_PTRACE, or in the group of its gid= option");
        }
    }

    /// <summary>
    /// EPERM unless the caller may ptrace it (the rule of process_vm_readv(2): opening mem asks for PTRACE_MODE_ATTACH), EBUSY if a debugger has it.
    /// The tracer of another call of ours is no obstacle: that call is waited for.
    /// </summary>
    public void CheckPermission()
    {
        if (Pid == Environment.ProcessId) return;
        try
        {
            Files.Open(string.Create(CultureInfo.InvariantCulture, $"/proc/{Pid}/mem"), Files.O_RDONLY).Dispose();
        }
        catch (PvmmapException e)
        {
            if (e.Errno is Errno.EACCES or Errno.EPERM)
                throw new PvmmapException(Errno.EPERM, $"open the {role}", Pid, hint: PtraceAccess.Describe(Pid));
            throw new PvmmapException(e.Errno == Errno.ENOENT ? Errno.ESRCH : e.Errno, $"open the {role}", Pid);
        }
        if (PtraceAccess.IsRefused(null, Pidfd)) throw new PvmmapException(Errno.EPERM, $"open the {role}", Pid, hint: PtraceAccess.Describe(Pid));
        if (Memory.TryTransfers() is var errno and not Errno.None)
        {
            throw new PvmmapException(errno, $"open the {role}", Pid,
                hint: "the caller cannot use process_vm_readv and process_vm_writev; let the seccomp profile of its container allow them");
        }
        CheckTracer(status.TracerPid);
    }

    /// <summary>EBUSY if a thread is traced that the call has to stop: of the source each, of the target the first. It may of course be traced later.</summary>
    public void CheckThreads(bool every)
    {
        if (Pid == Environment.ProcessId) return;
        CheckTracer(ProcessStatus.Read(Pid).TracerPid);
        if (!every) return;
        foreach (int tid in Threads())
        {
            try
            {
                CheckTracer(ProcessStatus.ReadThread(Pid, tid).TracerPid);
            }
            catch (PvmmapException e) when (e.Errno == Errno.ESRCH)
            {
                continue; // It has ended: nothing to stop.
            }
        }
    }

    private IEnumerable<int> Threads()
    {
        try
        {
            return [.. Directory.EnumerateDirectories(string.Create(CultureInfo.InvariantCulture, $"/proc/{Pid}/task"))
                .Select(path => int.Parse(Path.GetFileName(path.AsSpan()), CultureInfo.InvariantCulture))];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PvmmapException(Errno.ESRCH, $"open the {role}", Pid, hint: "it is exiting");
        }
    }

    private void CheckTracer(int tracer)
    {
        if (tracer == 0 || IsOurs(tracer)) return;
        throw new PvmmapException(Errno.EBUSY, $"open the {role}", Pid,
            hint: string.Create(CultureInfo.InvariantCulture, $"process {tracer} is tracing it (a debugger?); detach it first"));
    }

    // proc(5): the file is only there if the kernel was built with CONFIG_PROC_CHILDREN.
    private bool LeaderMayHaveChildren()
    {
        if (KernelFeatures.IsWithout(KernelFeature.ProcChildren)) return true;
        return Files.TryReadText(string.Create(CultureInfo.InvariantCulture, $"/proc/{Pid}/task/{Pid}/children")) is not { Length: 0 };
    }

    private static bool IsOurs(int tracer)
    {
        try
        {
            return ProcessStatus.Read(tracer).Name == TracerProcess.Name;
        }
        catch (PvmmapException e) when (e.Errno == Errno.ESRCH)
        {
            return true;
        }
    }

    public void Dispose() => Pidfd.Dispose();
}
