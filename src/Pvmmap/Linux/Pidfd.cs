namespace Pvmmap.Linux;

/// <summary>pidfd_open(2), pidfd_getfd(2) and poll(2) on the result.</summary>
internal static class Pidfd
{
    /// <summary>Opens a pidfd. ESRCH: no such process, or a thread that leads none.</summary>
    public static FileDescriptor Open(int pid)
    {
        SyscallResult result = SystemCall.Invoke(SystemCall.SYS_pidfd_open, pid, 0);
        return FileDescriptor.From(result, "open a pidfd", pid, result.Errno == Errno.ESRCH ? "no such process" : null);
    }

    /// <summary>The same; null if there is none to be had.</summary>
    public static FileDescriptor? TryOpen(int pid)
    {
        SyscallResult result = SystemCall.Invoke(SystemCall.SYS_pidfd_open, pid, 0);
        return result.Failed ? null : new FileDescriptor(result.Value);
    }

    /// <summary>Takes a duplicate of a descriptor of another process (Linux 5.6; needs the right to ptrace it).</summary>
    public static SyscallResult GetFd(FileDescriptor pidfd, int number) => KernelFeatures.IsWithout(KernelFeature.PidfdGetFd)
        ? new SyscallResult(-(long)Errno.ENOSYS)
        : SystemCall.Invoke(SystemCall.SYS_pidfd_getfd, pidfd.Number, number, 0);

    /// <summary>SIGKILL to that very process, never to another that has its number by now.</summary>
    public static void Kill(FileDescriptor pidfd) => Send(pidfd, Signals.SIGKILL);

    /// <summary>A signal to that very process.</summary>
    public static void Send(FileDescriptor pidfd, int signal) => SystemCall.Invoke(SystemCall.SYS_pidfd_send_signal, pidfd.Number, signal);

    /// <summary>True if the process has ended (it may be a zombie yet).</summary>
    public static bool HasEnded(FileDescriptor pidfd) => Poll.Readable(pidfd, TimeSpan.Zero);
}
