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
    public static bool IsGuarded(IProcessCalls source, TracerProcess tracer, SourcePlan plan) =>
        IsGuarded(source, tracer, plan.AnonymousRuns, plan.Pieces.Where(piece => !piece.IsAnonymous).Select(piece => piece.Range), plan.Range);

    /// <summary>The same for ranges anywhere in the process.</summary>
    /// <param name="source">As above.</param>
    /// <param name="tracer">As above.</param>
    /// <param name="anonymous">Private anonymous memory. There may be holes in a range.</param>
    /// <param name="others">Memory of other kinds, VMA by VMA.</param>
    /// <param name="whole">What encloses them all.</param>
    public static bool IsGuarded(IProcessCalls source, TracerProcess tracer, IEnumerable<PageRange> anonymous, IEnumerable<PageRange> others, PageRange whole)
    {
        // With UFFD_USER_MODE_ONLY a system call on a missing page fails meanwhile: only for a process that stands still.
        SyscallResult opened = Open(source, source is not OwnProcess, out int undo);
        // Out of descriptors, or forbidden, also to say whether there are any: smaps tells the same, slowly.
        if (opened.Failed) return KernelHasThem && IsRegistered(source, whole);
        try
        {
            SyscallResult taken = source.GetFd((int)opened.Value);
            if (SentDescriptor.IsNeeded(taken)) return IsRegistered(source, whole);
            using FileDescriptor here = FileDescriptor.From(taken, "look for a userfaultfd on the source range", source.Pid);
            Errno errno = Userfaultfd.Enable(here, 0, out _);
            if (errno != Errno.None) throw new PvmmapException(errno, "look for a userfaultfd on the source range", source.Pid);
            // Where nobody runs who would wait meanwhile, whole VMAs are asked about, which gives the same answer: to register a part cuts its VMA,
            // and where that is refused at the second end (vm.max_map_count) it stays cut at the first.
            using MapsFile? maps = source is OwnProcess ? null : MapsFile.Open(source.Pid);
            foreach (PageRange run in anonymous)
            {
                errno = RegisterAndUnregister(here, tracer, Whole(maps, run));
                if (errno == Errno.EBUSY) return true;
                if (errno != Errno.None) throw new PvmmapException(errno, "look for a userfaultfd on the source range", source.Pid, run);
            }
            // Shared and huge pages can be guarded too; other files cannot (EINVAL), nor what may not be written (EPERM).
            return others.Any(range => RegisterAndUnregister(here, tracer, Whole(maps, range)) == Errno.EBUSY);
        }
        finally
        {
            source.InvokeDisarming(undo, SystemCall.SYS_close, opened.Value);
        }
    }

    /// <summary>True if the process may have a userfaultfd of its own.</summary>
    public static bool MayHaveOne(IProcessCalls process)
    {
        SyscallResult opened = Open(process, userModeToo: true, out int undo);
        // A table that is full is no obstacle to the holder, who has one of its own.
        if (opened.Failed) return opened.Errno is Errno.EMFILE or Errno.ENFILE;
        process.InvokeDisarming(undo, SystemCall.SYS_close, opened.Value);
        return true;
    }

    // The sysctl is there if the kernel was built with CONFIG_USERFAULTFD (Linux 5.2).
    private static bool KernelHasThem => File.Exists("/proc/sys/vm/unprivileged_userfaultfd");

    private static bool IsRegistered(IProcessCalls source, PageRange whole) => Smaps.Read(source.Pid, whole).Exists(entry => (entry.Flags & Registered) != 0);

    private static SyscallResult Open(IProcessCalls process, bool userModeToo, out int undo)
    {
        const long flags = Userfaultfd.O_CLOEXEC | Userfaultfd.O_NONBLOCK;
        undo = 0;
        if (KernelFeatures.IsWithout(KernelFeature.Userfaultfd)) return new SyscallResult(-(long)Errno.ENOSYS);
        SyscallResult opened = process.InvokeUndoable(SystemCall.SYS_close, 0, out undo, SystemCall.SYS_userfaultfd, flags);
        if (opened.Errno == Errno.EPERM && userModeToo && !KernelFeatures.IsWithout(KernelFeature.UserModeOnly))
            opened = process.InvokeUndoable(SystemCall.SYS_close, 0, out undo, SystemCall.SYS_userfaultfd, flags | Userfaultfd.UFFD_USER_MODE_ONLY);
        return opened;
    }

    private static PageRange Whole(MapsFile? maps, PageRange range)
    {
        if (maps?.FindRangeFrom(range.Start) is not { } first || maps.FindRangeFrom(range.End - PageRange.PageSize) is not { } last) return range;
        return new PageRange(Math.Min(first.Start, range.Start), last.Start < range.End ? last.End : range.End);
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
