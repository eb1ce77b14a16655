using Pvmmap.Holder;
using Pvmmap.Linux;
using Pvmmap.Procfs;
using Pvmmap.Remote;

namespace Pvmmap.Source;

/// <summary>
/// Tells whether a userfaultfd guards part of a range: its missing pages are not holes, and a fork would lose them. The kernel refuses to
/// register a VMA with a second userfaultfd (EBUSY), which is asked for here and taken back at once; no page is looked at.
/// </summary>
internal static class UserfaultfdProbe
{
    private const VmFlags Registered = VmFlags.UffdMissing | VmFlags.UffdWp | VmFlags.UffdMinor;

    // Two of them on one range of this process would take each other for strangers.
    private static readonly Lock OneAtATime = new();

    /// <param name="source">The source, all of whose threads stand still, or this process.</param>
    /// <param name="tracer">Where the ioctls run: in this process a thread that touches the range while it is registered waits, perhaps the very
    /// thread for which a garbage collection waits, and the collector would not let us come back to unregister it.</param>
    /// <param name="plan">What to ask about.</param>
    public static bool IsGuarded(IProcessCalls source, TracerProcess tracer, SourcePlan plan)
    {
        const long flags = Userfaultfd.O_CLOEXEC | Userfaultfd.O_NONBLOCK;
        SyscallResult opened = source.InvokeUndoable(SystemCall.SYS_close, 0, out int undo, SystemCall.SYS_userfaultfd, flags);
        // With UFFD_USER_MODE_ONLY a system call on a missing page fails meanwhile: only for a process that stands still.
        if (opened.Errno == Errno.EPERM && source is not OwnProcess)
            opened = source.InvokeUndoable(SystemCall.SYS_close, 0, out undo, SystemCall.SYS_userfaultfd, flags | Userfaultfd.UFFD_USER_MODE_ONLY);
        if (opened.Errno == Errno.ENOSYS) return false;
        // Out of descriptors, or forbidden: smaps tells the same, slowly.
        if (opened.Failed) return Smaps.Read(source.Pid, plan.Range).Exists(entry => (entry.Flags & Registered) != 0);
        try
        {
            using FileDescriptor here = FileDescriptor.From(source.GetFd((int)opened.Value), "look for a userfaultfd on the source range", source.Pid);
            Errno errno = Userfaultfd.Enable(here, 0, out _);
            if (errno != Errno.None) throw new PvmmapException(errno, "look for a userfaultfd on the source range", source.Pid);
            foreach (PageRange run in plan.AnonymousRuns)
            {
                errno = RegisterAndUnregister(here, tracer, run);
                if (errno == Errno.EBUSY) return true;
                if (errno != Errno.None) throw new PvmmapException(errno, "look for a userfaultfd on the source range", source.Pid, run);
            }
            // Shared and huge pages can be guarded too; other files cannot (EINVAL), nor what may not be written (EPERM).
            return plan.Pieces.Any(piece => !piece.IsAnonymous && RegisterAndUnregister(here, tracer, piece.Range) == Errno.EBUSY);
        }
        finally
        {
            source.Invoke(SystemCall.SYS_close, opened.Value);
            source.ClearUndo(undo);
        }
    }

    private static unsafe Errno RegisterAndUnregister(FileDescriptor uffd, TracerProcess tracer, PageRange range)
    {
        Userfaultfd.Register register = new()
        {
            Range = { Start = range.Start, Length = range.Length },
            Mode = Userfaultfd.UFFDIO_REGISTER_MODE_MISSING,
        };
        Userfaultfd.Range all = register.Range;
        Span<TracerRequest> requests = [Ioctl(Userfaultfd.UFFDIO_REGISTER, &register), Ioctl(Userfaultfd.UFFDIO_UNREGISTER, &all)];
        lock (OneAtATime)
        {
            int done = tracer.Invoke(requests);
            return done == requests.Length ? Errno.None : new SyscallResult(requests[done].Result).Errno;
        }

        TracerRequest Ioctl(uint request, void* argument) => new() { Number = SystemCall.SYS_ioctl, A1 = uffd.Number, A2 = request, A3 = (long)argument };
    }
}
