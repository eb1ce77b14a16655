namespace Pvmmap.Linux;

/// <summary>The features that may be absent, and those that <see cref="Variable"/> makes absent, so that the other way can be tested anywhere.</summary>
internal static class KernelFeatures
{
    /// <summary>Names of <see cref="All"/>, separated by commas; read once. The holder gets the same bits in its control page.</summary>
    public const string Variable = "PVMMAP_WITHOUT";

    private static readonly Lazy<uint> s_without = new(() => Parse(Environment.GetEnvironmentVariable(Variable)));

    /// <param name="Name">For <see cref="Variable"/>, and in docs/limits.md.</param>
    /// <param name="Bit">One of <see cref="KernelFeature"/>.</param>
    /// <param name="Title">As <see cref="Capability.Name"/>.</param>
    /// <param name="Otherwise">The way taken without it.</param>
    public sealed record Entry(string Name, uint Bit, string Title, string Otherwise);

    public static IReadOnlyList<Entry> All { get; } =
    [
        new("userfaultfd", KernelFeature.Userfaultfd, "userfaultfd", "the content is copied before the call returns"),
        new("event_fork", KernelFeature.EventFork, "userfaultfd fork events", "every page is in place before the call returns"),
        new("poison", KernelFeature.Poison, "userfaultfd poison", "the target waits for ever at a missing page should the holder be killed"),
        new("user_mode_only", KernelFeature.UserModeOnly, "UFFD_USER_MODE_ONLY", "the content is copied before the call returns where the target may have no full userfaultfd"),
        new("dev_userfaultfd", KernelFeature.DevUserfaultfd, "/dev/userfaultfd", "every page is in place before the call returns where the target may not call userfaultfd()"),
        new("pagemap_scan", KernelFeature.PagemapScan, "PAGEMAP_SCAN", "pagemap is read entry by entry, which is slower on sparse ranges"),
        new("procmap_query", KernelFeature.ProcmapQuery, "PROCMAP_QUERY", "the whole of /proc/PID/maps is read for a question about one VMA"),
        new("close_range", KernelFeature.CloseRange, "close_range", "descriptors are closed one by one, as /proc/self/fd lists them"),
        new("pidfd_getfd", KernelFeature.PidfdGetFd, "pidfd_getfd", "the other process is made to send its descriptor over a local socket"),
        new("rseq_configuration", KernelFeature.RseqConfiguration, "PTRACE_GET_RSEQ_CONFIGURATION", "a thread that is stopped inside a restartable sequence goes on inside it"),
        new("anon_vma_name", KernelFeature.AnonVmaName, "PR_SET_VMA_ANON_NAME", "memory has no name to be carried"),
        new("mremap_vmas", KernelFeature.MremapVmas, "mremap of several VMAs", "a move takes the range VMA by VMA"),
        new("mremap_dontunmap", KernelFeature.MremapDontUnmap, "MREMAP_DONTUNMAP", "a move reads the attributes of its range in the whole of smaps, 20 ms/GiB"),
        new("kcmp", KernelFeature.Kcmp, "kcmp", "a move's source that exits or calls execve keeps its other memory until the fill is done"),
        new("proc_children", KernelFeature.ProcChildren, "/proc/PID/task/TID/children", "all of /proc is searched for the guardian"),
        new("map_files", KernelFeature.MapFiles, "/proc/PID/map_files", "what is mapped is opened by a descriptor of the source or by its path; else EPERM"),
        new("memfd_exec", KernelFeature.MemfdExec, "programs out of a memfd", "no sentinel stands behind holder and guardian"),
    ];

    /// <summary>Bits of what is to be taken for absent.</summary>
    /// <exception cref="PvmmapException">EINVAL: an unknown name.</exception>
    public static uint Without => s_without.Value;

    /// <summary>True if the feature is to be taken for absent, whatever the kernel says.</summary>
    public static bool IsWithout(uint feature) => (Without & feature) != 0;

    /// <exception cref="PvmmapException">EINVAL: an unknown name.</exception>
    public static uint Parse(string? names)
    {
        uint bits = 0;
        foreach (string name in (names ?? "").Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))
        {
            bits |= All.FirstOrDefault(entry => entry.Name == name)?.Bit ?? throw new PvmmapException(Errno.EINVAL, $"read {Variable}",
                hint: $"'{name}' is no feature; unset it, or name some of {string.Join(", ", All.Select(entry => entry.Name))}");
        }
        return bits;
    }
}
