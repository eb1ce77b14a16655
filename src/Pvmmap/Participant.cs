using System.Globalization;
using Pvmmap.Linux;
using Pvmmap.Procfs;
using Pvmmap.Remote;

namespace Pvmmap;

/// <summary>A process that takes part in a call, pinned by a pidfd so that a reused number does no harm.</summary>
internal sealed class Participant : IDisposable
{
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

    /// <summary>A filter that its children inherit.</summary>
    public bool IsUnderSeccomp => status.Seccomp != 0;

    /// <summary>
    /// A SIGCHLD that the program ignores is dropped, but not when it is sent to a traced thread: then it wakes any thread of the process, whose
    /// system call fails with EINTR. So where the leader has children, stop it together with all the others.
    /// </summary>
    public bool MayHaveSigchld => status.Threads > 1 && (status.SigCgt & Signals.Bit(Signals.SIGCHLD)) == 0 && LeaderMayHaveChildren();

    /// <summary>ESRCH if there is none or it is exiting, EINVAL for a kernel thread.</summary>
    public static Participant Open(int pid, string role)
    {
        FileDescriptor pidfd = Linux.Pidfd.Open(pid);
        try
        {
            ProcessStatus status = ProcessStatus.Read(pid);
            if (status.IsKernelThread) throw new PvmmapException(Errno.EINVAL, $"find the {role}", pid, hint: "it is a kernel thread: it has no memory of its own");
            if (status.State is 'Z' or 'X') throw new PvmmapException(Errno.ESRCH, $"find the {role}", pid, hint: "it is exiting");
            return new Participant(pid, role, status, pidfd);
        }
        catch
        {
            pidfd.Dispose();
            throw;
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
                throw new PvmmapException(Errno.EPERM, $"open the {role}", Pid, hint: "the caller may not ptrace it: equal user ids, or CAP_SYS_PTRACE");
            throw new PvmmapException(e.Errno == Errno.ENOENT ? Errno.ESRCH : e.Errno, $"open the {role}", Pid);
        }
        if (status.TracerPid == 0 || IsOurs(status.TracerPid)) return;
        throw new PvmmapException(Errno.EBUSY, $"open the {role}", Pid,
            hint: string.Create(CultureInfo.InvariantCulture, $"process {status.TracerPid} is tracing it (a debugger?): detach it first"));
    }

    // proc(5): the file is only there if the kernel was built with CONFIG_PROC_CHILDREN.
    private bool LeaderMayHaveChildren()
    {
        try
        {
            return File.ReadAllText(string.Create(CultureInfo.InvariantCulture, $"/proc/{Pid}/task/{Pid}/children")).Length != 0;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return true;
        }
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
