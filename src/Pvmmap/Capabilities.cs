using System.Globalization;
using System.Runtime.InteropServices;
using Pvmmap.Linux;
using Pvmmap.Procfs;
using Pvmmap.Remote;

namespace Pvmmap;

/// <summary>Tries each thing that the call uses, from the point of view of this process.</summary>
public static class Capabilities
{
    internal const int CAP_SYS_ADMIN = 21;
    internal const int CAP_CHECKPOINT_RESTORE = 40;

    /// <summary>Probes everything; changes nothing. Without /proc, what can only be read there counts as missing.</summary>
    public static IReadOnlyList<Capability> Probe()
    {
        ulong effective = EffectiveCapabilities();
        bool mayPtrace = (effective & 1UL << PtraceAccess.CAP_SYS_PTRACE) != 0, mayAdmin = (effective & 1UL << CAP_SYS_ADMIN) != 0;
        bool mayReadOthers = PtraceAccess.MayReadOthers(effective);
        uint without = KernelFeatures.Without;
        List<Capability> found =
        [
            Architecture(),
            BackendOfCalls(Backends.Choice, ProcessVmMmap.IsPresent),
            ProcMounted(),
            PageSize(),
            PtraceCall(),
            ProcessVmCalls(),
            PidfdOpen(),
            PidfdGetFd(),
            CloseRange(),
            PagemapScanIoctl(),
            UserfaultfdCall(),
            UserfaultfdFeature("userfaultfd remap, remove and unmap events", true,
                Userfaultfd.UFFD_FEATURE_EVENT_REMAP | Userfaultfd.UFFD_FEATURE_EVENT_REMOVE | Userfaultfd.UFFD_FEATURE_EVENT_UNMAP,
                "the target may remap, discard and unmap the range while it fills", "the fill could not follow what the target does",
                "use Linux 4.11 or later"),
            UserfaultfdFeature("userfaultfd fork events", false, Userfaultfd.UFFD_FEATURE_EVENT_FORK,
                "the target may fork while it fills", "every page is in place before the call returns",
                mayPtrace ? "use Linux 4.11 or later" : "run as root or with CAP_SYS_PTRACE"),
            UserfaultfdFeature("userfaultfd poison", false, Userfaultfd.UFFD_FEATURE_POISON,
                "a missing page raises SIGBUS in the target should the holder be killed",
                "the target waits for ever at a missing page should the holder be killed",
                "use Linux 6.6 or later"),
            UserfaultfdFeature("userfaultfd move", false, Userfaultfd.UFFD_FEATURE_MOVE,
                "pages can be moved within a process; not used yet", "not used yet", "use Linux 6.8 or later"),
            UnprivilegedTargets(),
            new("CAP_SYS_PTRACE", mayPtrace, false,
                !mayPtrace ? "only processes of the same user can be source and target"
                    : mayReadOthers ? "processes of every user can be source and target" : "only processes of the same user can be source and target, for want of CAP_DAC_READ_SEARCH",
                Cure(mayPtrace, PtraceAccess.Privilege)),
            new("CAP_DAC_READ_SEARCH", mayReadOthers, false,
                mayReadOthers ? "the /proc files of every user's processes can be read" : "the /proc files of other users' processes cannot be read",
                Cure(mayReadOthers, PtraceAccess.Privilege)),
            new("CAP_SYS_ADMIN", mayAdmin, false,
                mayAdmin ? "processes under a seccomp filter can be source and target"
                    : "a process whose seccomp filter forbids our system calls is refused",
                Cure(mayAdmin, "run as root, or give the program CAP_SYS_ADMIN")),
            UserModeOnly(),
            ProcmapQueryIoctl(),
            Kcmp(),
            ChildrenOfTasks(),
            MapFiles(),
            ProgramsOutOfMemfd(),
            YamaScope(mayPtrace),
        ];
        foreach (KernelFeatures.Entry taken in KernelFeatures.All.Where(entry => (entry.Bit & without) != 0))
        {
            Capability absent = new(taken.Title, false, false, $"taken away by {KernelFeatures.Variable}; {taken.Otherwise}", $"unset {KernelFeatures.Variable}");
            int row = found.FindIndex(capability => capability.Name == taken.Title);
            if (row >= 0) found[row] = absent;
            else found.Add(absent);
        }
        return found;
    }

    private static string? Cure(bool present, string cure) => present ? null : cure;

    private static ulong EffectiveCapabilities()
    {
        try
        {
            return ProcessStatus.Read(Environment.ProcessId).CapEff;
        }
        catch (PvmmapException)
        {
            return 0; // No /proc: reported by its own row.
        }
    }

    private static Capability Architecture()
    {
        bool present = Processor.CanStopProcesses;
        string limit = present ? "" : Processor.IsArm64 ? "; only the caller can be source and target" : "";
        return new("architecture", present, true, string.Create(CultureInfo.InvariantCulture, $"{RuntimeInformation.ProcessArchitecture}{limit}"),
            Cure(present, "use an x86-64 machine"));
    }

    /// <summary>Who makes calls: the one row that is about a choice, too.</summary>
    internal static Capability BackendOfCalls(BackendChoice choice, bool present)
    {
        const string name = "backend";
        string kernel = Backend.Kernel.Word(), userspace = Backend.UserSpace.Word();
        return (choice, present) switch
        {
            (BackendChoice.Kernel, false) => new(name, false, true, $"{Errno.ENOSYS}: {Backends.NoSystemCall}", Backends.Cure),
            (BackendChoice.Kernel, true) => new(name, true, true,
                $"{kernel}: calls are made by this kernel's process_vm_mmap() or fail, those between two other processes always ({Backends.Variable}=kernel)", null),
            (BackendChoice.Auto, true) => new(name, true, true,
                $"{kernel}: this kernel has process_vm_mmap(); it is used where the caller is source or target, and it takes the range", null),
            (BackendChoice.UserSpace, true) => new(name, true, true, $"{userspace}: this kernel has process_vm_mmap(), and it is not used ({Backends.Variable}=userspace)", null),
            _ => new(name, true, true, $"{userspace}: this kernel has no process_vm_mmap(), as no released Linux has", null),
        };
    }

    private static Capability PageSize()
    {
        bool present = Environment.SystemPageSize == (int)PageRange.PageSize;
        return new("page size", present, true, string.Create(CultureInfo.InvariantCulture, $"{Environment.SystemPageSize >> 10} KiB"),
            Cure(present, "use a kernel with pages of 4 KiB"));
    }

    private static Capability ProcMounted()
    {
        bool present = File.Exists("/proc/self/maps") && File.Exists("/proc/self/pagemap");
        return new("/proc", present, true, present ? "mounted" : "not mounted, or without maps and pagemap",
            Cure(present, "mount -t proc proc /proc"));
    }

    // No process has the id 0: a kernel that gets as far as looking for it says ESRCH, a seccomp filter EPERM or ENOSYS.
    private static Capability PtraceCall() => Call("ptrace", SystemCall.Invoke(SystemCall.SYS_ptrace, Ptrace.PTRACE_SEIZE, 0).Errno, Errno.ESRCH,
        "other processes are stopped and run our system calls through it");

    private static Capability ProcessVmCalls() => Call(
        "process_vm_readv", Memory.TryTransfers(), Errno.None, "small things are read and written in other processes through it and process_vm_writev");

    private static Capability PidfdOpen()
    {
        SyscallResult result = SystemCall.Invoke(SystemCall.SYS_pidfd_open, Environment.ProcessId, 0);
        if (!result.Failed) new FileDescriptor(result.Value).Dispose();
        return Call("pidfd_open", result.Errno, Errno.None, "a process is named without mistaking another for it");
    }

    private static Capability PidfdGetFd()
    {
        // Of this process itself, of a descriptor that is certainly open: the pidfd.
        SyscallResult opened = SystemCall.Invoke(SystemCall.SYS_pidfd_open, Environment.ProcessId, 0);
        if (opened.Failed) return Optional("pidfd_getfd", opened.Errno, "", KernelFeature.PidfdGetFd);
        using FileDescriptor pidfd = new(opened.Value);
        SyscallResult taken = Pidfd.GetFd(pidfd, pidfd.Number);
        if (!taken.Failed) new FileDescriptor(taken.Value).Dispose();
        return Optional("pidfd_getfd", taken.Errno, "descriptors are taken over from other processes", KernelFeature.PidfdGetFd);
    }

    // A range above every descriptor: nothing is closed.
    private static Capability CloseRange() => Optional(
        "close_range", SystemCall.Invoke(SystemCall.SYS_close_range, uint.MaxValue, uint.MaxValue, 0).Errno,
        "a holder closes what it inherits from the source", KernelFeature.CloseRange);

    private static Capability Optional(string name, Errno errno, string use, uint feature) => errno == Errno.None
        ? new(name, true, false, use, null)
        : Missing(name, errno, feature, errno == Errno.ENOSYS ? "use a newer kernel (Linux 5.9 has all of these calls)" : "let the container's seccomp profile allow it");

    private static Capability Missing(string name, Errno errno, uint feature, string cure) => new(name, false, false,
        string.Create(CultureInfo.InvariantCulture, $"{errno}; {KernelFeatures.All.First(entry => entry.Bit == feature).Otherwise}"), cure);

    private static Capability UserModeOnly()
    {
        const string name = "UFFD_USER_MODE_ONLY";
        using FileDescriptor? uffd = OpenUserfaultfd(Userfaultfd.UFFD_USER_MODE_ONLY, out Errno errno, out _);
        return uffd is not null ? new(name, true, false, "a process without privileges may have a userfaultfd for faults in user mode", null)
            : Missing(name, errno, KernelFeature.UserModeOnly, errno == Errno.EINVAL ? "use Linux 5.11 or later" : "see userfaultfd");
    }

    private static Capability ProcmapQueryIoctl()
    {
        const string name = "PROCMAP_QUERY";
        SyscallResult opened = Files.TryOpen("/proc/self/maps", Files.O_RDONLY);
        if (opened.Failed) return Missing(name, opened.Errno, KernelFeature.ProcmapQuery, "mount -t proc proc /proc");
        using FileDescriptor maps = new(opened.Value);
        Errno errno = ProcmapQuery.Find(maps, 0, [], out _);
        return errno == Errno.None ? new(name, true, false, "single VMAs are asked for", null)
            : Missing(name, errno, KernelFeature.ProcmapQuery, "use Linux 6.11 or later");
    }

    private static Capability Kcmp()
    {
        const int vm = 1;
        Errno errno = SystemCall.Invoke(SystemCall.SYS_kcmp, Environment.ProcessId, Environment.ProcessId, vm).Errno;
        return errno == Errno.None ? new("kcmp", true, false, "a move's source that has ended gives its memory back at once", null)
            : Missing("kcmp", errno, KernelFeature.Kcmp, errno == Errno.ENOSYS ? "use a kernel with CONFIG_KCMP" : "let the container's seccomp profile allow it");
    }

    private static Capability ChildrenOfTasks()
    {
        const string name = "/proc/PID/task/TID/children";
        string path = string.Create(CultureInfo.InvariantCulture, $"/proc/self/task/{Environment.ProcessId}/children");
        return File.Exists(path) ? new(name, true, false, "a holder's guardian is found", null)
            : Missing(name, Errno.ENOENT, KernelFeature.ProcChildren, "use a kernel with CONFIG_PROC_CHILDREN");
    }

    // Of this process's own program: the kernel lets nobody follow these links without a capability.
    private static Capability MapFiles()
    {
        const string name = "/proc/PID/map_files";
        Errno errno = Errno.ENOENT;
        if (Directory.Exists("/proc/self/map_files") && Maps.Read(Environment.ProcessId).FirstOrDefault(vma => vma.IsFileBacked && !vma.IsDeleted) is { } vma)
        {
            SyscallResult opened = Files.TryOpen(string.Create(CultureInfo.InvariantCulture, $"/proc/self/map_files/{vma.Range.Start:x}-{vma.Range.End:x}"), Files.O_RDONLY);
            errno = opened.Errno;
            if (!opened.Failed) new FileDescriptor(opened.Value).Dispose();
        }
        return errno == Errno.None ? new(name, true, false, "files and shared memory in the range are opened as the source has them", null)
            : Missing(name, errno, KernelFeature.MapFiles, "run as root, or give the program CAP_CHECKPOINT_RESTORE");
    }

    private static Capability ProgramsOutOfMemfd()
    {
        const string name = "programs out of a memfd";
        int? setting = ReadNumber("/proc/sys/vm/memfd_noexec");
        return setting is null or 0 ? new(name, true, false, "a sentinel stands behind holder and guardian", null)
            : Missing(name, Errno.EACCES, KernelFeature.MemfdExec, "sysctl vm.memfd_noexec=0");
    }

    private static Capability Call(string name, Errno errno, Errno expected, string use)
    {
        bool present = errno == expected;
        return new(name, present, true, present ? use : string.Create(CultureInfo.InvariantCulture, $"{errno}"),
            Cure(present, errno == Errno.ENOSYS
                ? "use a newer kernel (Linux 5.9 has all of these calls)"
                : "let the container's seccomp profile allow it"));
    }

    private static unsafe Capability PagemapScanIoctl()
    {
        const string name = "PAGEMAP_SCAN";
        byte onStack = 0;
        try
        {
            using FileDescriptor pagemap = Files.Open("/proc/self/pagemap", Files.O_RDONLY);
            ulong page = (ulong)&onStack & ~(PageRange.PageSize - 1);
            SyscallResult result = PagemapScan.Scan(pagemap, new PageRange(page, page + PageRange.PageSize));
            if (result.Raw == 1) return new(name, true, false, "populated pages are found by one call for many", null);
            return new(name, false, false,
                string.Create(CultureInfo.InvariantCulture, $"{result.Errno}; pagemap is read entry by entry, which is slower on sparse ranges"),
                "use Linux 6.7 or later");
        }
        catch (PvmmapException e)
        {
            return new(name, false, false, string.Create(CultureInfo.InvariantCulture, $"/proc/self/pagemap: {e.Errno}"), "mount -t proc proc /proc");
        }
    }

    private static Capability UserfaultfdCall()
    {
        const string name = "userfaultfd";
        using FileDescriptor? full = OpenUserfaultfd(0, out Errno errno, out string by);
        if (full is not null) return new(name, true, false, $"by {by}; the target gets its pages as it touches them", null);
        using FileDescriptor? userOnly = OpenUserfaultfd(Userfaultfd.UFFD_USER_MODE_ONLY, out _, out _);
        string found = string.Create(CultureInfo.InvariantCulture, $"{errno}");
        return userOnly is not null
            ? new(name, false, false, $"{found}, except for faults in user mode; every page is in place before the call returns",
                "run as root, or allow access to /dev/userfaultfd, or: sysctl vm.unprivileged_userfaultfd=1")
            : new(name, false, false, $"{found}; the content is copied before the call returns",
                errno == Errno.ENOSYS
                    ? "use a kernel with CONFIG_USERFAULTFD"
                    : "let the container's seccomp profile allow userfaultfd, or run as root");
    }

    private static Capability UserfaultfdFeature(string name, bool required, ulong features, string with, string without, string cure)
    {
        // A descriptor that may only do user-mode faults knows the same features.
        using FileDescriptor? uffd = OpenUserfaultfd(0, out Errno errno, out _) ?? OpenUserfaultfd(Userfaultfd.UFFD_USER_MODE_ONLY, out errno, out _);
        if (uffd is null) return new(name, false, false, string.Create(CultureInfo.InvariantCulture, $"no userfaultfd ({errno})"), "see userfaultfd");
        errno = Userfaultfd.Enable(uffd, features, out _);
        return errno == Errno.None
            ? new(name, true, required, with, null)
            : new(name, false, required, string.Create(CultureInfo.InvariantCulture, $"{errno}; {without}"), cure);
    }

    private static FileDescriptor? OpenUserfaultfd(int mode, out Errno errno, out string by)
    {
        int flags = Userfaultfd.O_CLOEXEC | Userfaultfd.O_NONBLOCK | mode;
        by = "userfaultfd()";
        errno = Errno.ENOSYS;
        if (KernelFeatures.IsWithout(KernelFeature.Userfaultfd)) return null;
        errno = Errno.EINVAL;
        if ((mode & Userfaultfd.UFFD_USER_MODE_ONLY) != 0 && KernelFeatures.IsWithout(KernelFeature.UserModeOnly)) return null;
        SyscallResult opened = SystemCall.Invoke(SystemCall.SYS_userfaultfd, flags);
        errno = opened.Errno;
        if (!opened.Failed) return new FileDescriptor(opened.Value);
        by = "/dev/userfaultfd";
        using FileDescriptor? device = Userfaultfd.TryOpenDevice();
        if (device is null) return null;
        SyscallResult made = SystemCall.Invoke(SystemCall.SYS_ioctl, device.Number, Userfaultfd.USERFAULTFD_IOC_NEW, flags);
        return made.Failed ? null : new FileDescriptor(made.Value);
    }

    // A target that lacks CAP_SYS_PTRACE gets a full userfaultfd by the sysctl, or by a descriptor of the device that the caller passes to it.
    private static Capability UnprivilegedTargets()
    {
        const string name = "userfaultfd in unprivileged targets";
        const string setting = "vm.unprivileged_userfaultfd";
        if (ReadNumber("/proc/sys/vm/unprivileged_userfaultfd") == 1) return new(name, true, false, $"{setting} is 1", null);
        using FileDescriptor? device = Userfaultfd.TryOpenDevice();
        return device is not null
            ? new(name, true, false, "/dev/userfaultfd is open to the caller, who passes it on", null)
            : new(name, false, false, $"{setting} is 0 and /dev/userfaultfd is closed to the caller; every page is in place before the call returns",
                "run as root, or allow access to /dev/userfaultfd (Linux 6.1), or: sysctl vm.unprivileged_userfaultfd=1");
    }

    private static Capability YamaScope(bool mayPtrace)
    {
        const string name = "Yama ptrace_scope";
        int? scope = Yama.Scope;
        if (scope is not { } level) return new(name, true, true, "Yama is not active", null);
        if (Yama.Allows(level, TracerRelation.Stranger, mayPtrace))
        {
            return new(name, true, true, level == Yama.Disabled ? "0: no restriction"
                : string.Create(CultureInfo.InvariantCulture, $"{level}: does not bind a caller with CAP_SYS_PTRACE"), null);
        }
        return new(name, false, level != Yama.Relational, level switch
        {
            Yama.Relational => "1: only a target that names the caller by PR_SET_PTRACER can take part (the call's tracer is nobody's ancestor)",
            Yama.CapabilityOnly => "2: only callers with CAP_SYS_PTRACE",
            _ => string.Create(CultureInfo.InvariantCulture, $"{level}: no process may trace another"),
        }, Yama.Cure(level));
    }

    internal static int? ReadNumber(string path)
    {
        try
        {
            return int.Parse(File.ReadAllText(path), NumberStyles.AllowTrailingWhite, CultureInfo.InvariantCulture);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null; // Absent: the kernel is built without it.
        }
    }
}
