using Pvmmap.Linux;
using Pvmmap.Remote;

namespace Pvmmap.Target;

/// <summary>A userfaultfd of the target's address space, held by this process: the target's own descriptor table does not keep it.</summary>
internal sealed class TargetUserfaultfd : IDisposable
{
    private const ulong Events = Userfaultfd.UFFD_FEATURE_EVENT_REMAP | Userfaultfd.UFFD_FEATURE_EVENT_REMOVE | Userfaultfd.UFFD_FEATURE_EVENT_UNMAP;

    private const string UserModeOnly = "the target may only have a userfaultfd for user-mode faults, so every page is in place before the call returns; " +
        "CAP_SYS_PTRACE for the target, access to /dev/userfaultfd for the caller, or sysctl vm.unprivileged_userfaultfd=1 avoids that";

    private const string NoForkEvents =
        "the caller lacks CAP_SYS_PTRACE, without which a child that the target forks would miss pages, so every page is in place before the call returns";

    private TargetUserfaultfd(FileDescriptor descriptor, string? restriction)
    {
        Descriptor = descriptor;
        Restriction = restriction;
    }

    public FileDescriptor Descriptor { get; }

    /// <summary>Why every page must be in place before the call returns; null if the fill may go on behind it.</summary>
    public string? Restriction { get; }

    /// <summary>Makes one. Null with a reason if the target cannot have one: the content has to be copied then.</summary>
    public static TargetUserfaultfd? Create(IProcessCalls target, out string? reason)
    {
        const long flags = Userfaultfd.O_CLOEXEC | Userfaultfd.O_NONBLOCK;
        string? restriction = null;
        if (KernelFeatures.IsWithout(KernelFeature.Userfaultfd))
        {
            reason = WithoutOne(Errno.ENOSYS);
            return null;
        }
        SyscallResult opened = target.InvokeUndoable(SystemCall.SYS_close, 0, out int undo, SystemCall.SYS_userfaultfd, flags);
        if (opened.Errno == Errno.EPERM) opened = OpenThroughDevice(target, flags, out undo);
        if (opened.Errno is Errno.EPERM or Errno.EACCES or Errno.ENOENT)
        {
            // EINVAL before Linux 5.11.
            if (!KernelFeatures.IsWithout(KernelFeature.UserModeOnly))
                opened = target.InvokeUndoable(SystemCall.SYS_close, 0, out undo, SystemCall.SYS_userfaultfd, flags | Userfaultfd.UFFD_USER_MODE_ONLY);
            restriction = UserModeOnly;
        }
        if (opened.Failed)
        {
            reason = WithoutOne(opened.Errno);
            return null;
        }
        Step.Reached(CallStep.UserfaultfdMade);
        FileDescriptor? here = null;
        try
        {
            SyscallResult taken = target.GetFd((int)opened.Value);
            if (SentDescriptor.IsNeeded(taken))
            {
                reason = $"the caller cannot take the target's userfaultfd (pidfd_getfd: {taken.Errno}), nor the target send it, so the content was copied before the call returned";
                return null;
            }
            here = FileDescriptor.From(taken, "take the target's userfaultfd", target.Pid);
            Step.Reached(CallStep.UserfaultfdTaken);
            reason = null;
            return new TargetUserfaultfd(here, Enable(here) ?? restriction);
        }
        catch
        {
            here?.Dispose();
            throw;
        }
        finally
        {
            target.InvokeDisarming(undo, SystemCall.SYS_close, opened.Value);
            Step.Reached(CallStep.UserfaultfdClosed);
        }
    }

    private static string WithoutOne(Errno errno) => $"the target can have no userfaultfd ({errno}), so the content was copied before the call returned";

    /// <summary>
    /// What <see cref="Create"/> will say of a process, in its words, without asking the process: null if the fill may go on behind the call.
    /// </summary>
    /// <param name="callerIsPrivileged">The caller has CAP_SYS_PTRACE in the first user namespace: userfaultfd(2) and UFFD_FEATURE_EVENT_FORK know no other.</param>
    /// <param name="targetIsPrivileged">So has the target.</param>
    /// <param name="unprivileged">vm.unprivileged_userfaultfd.</param>
    /// <param name="device">The caller can open /dev/userfaultfd, and pass it on.</param>
    public static string? Foresee(bool callerIsPrivileged, bool targetIsPrivileged, bool unprivileged, bool device) =>
        !callerIsPrivileged ? NoForkEvents : targetIsPrivileged || unprivileged || device ? null : UserModeOnly;

    private static string? Enable(FileDescriptor uffd)
    {
        const ulong fork = Userfaultfd.UFFD_FEATURE_EVENT_FORK, poison = Userfaultfd.UFFD_FEATURE_POISON;
        Errno errno = Errno.EINVAL;
        foreach (ulong features in (ReadOnlySpan<ulong>)[Events | fork | poison, Events | fork, Events | poison, Events])
        {
            if ((features & fork) != 0 && KernelFeatures.IsWithout(KernelFeature.EventFork)) continue;
            if ((features & poison) != 0 && KernelFeatures.IsWithout(KernelFeature.Poison)) continue;
            errno = Userfaultfd.Enable(uffd, features, out _);
            if (errno != Errno.None) continue;
            if ((features & fork) != 0) return null;
            return NoForkEvents;
        }
        throw new PvmmapException(errno == Errno.EINVAL ? Errno.ENOSYS : errno, "set up the target's userfaultfd",
            hint: "the kernel lacks the remap, remove and unmap events (Linux 4.11)");
    }

    /// <summary>An unprivileged target may use a descriptor of /dev/userfaultfd that this process could open, passed over a socket of its own.</summary>
    private static SyscallResult OpenThroughDevice(IProcessCalls target, long flags, out int undo)
    {
        undo = 0;
        FileDescriptor? device = Userfaultfd.TryOpenDevice();
        if (device is null) return new SyscallResult(-(long)Errno.EPERM);
        using (device)
        using (DescriptorChannel channel = new(target))
        {
            SyscallResult passed = channel.Pass(device, out int passedUndo);
            if (passed.Failed) return new SyscallResult(-(long)Errno.EPERM);
            SyscallResult result = target.InvokeUndoable(
                SystemCall.SYS_close, 0, out undo, SystemCall.SYS_ioctl, passed.Value, Userfaultfd.USERFAULTFD_IOC_NEW, flags);
            channel.Close((int)passed.Value, passedUndo);
            return result;
        }
    }

    public void Dispose() => Descriptor.Dispose();
}
