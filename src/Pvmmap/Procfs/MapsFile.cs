using Pvmmap.Linux;

namespace Pvmmap.Procfs;

/// <summary>
/// /proc/PID/maps for questions about single VMAs. Linux answers them one by one since 6.11, without printing the others; before that they are looked
/// up in the whole list, which is read once.
/// </summary>
internal sealed class MapsFile : IDisposable
{
    private readonly int pid;
    private readonly ProcFile file;
    private List<Vma>? all;

    private MapsFile(int pid, ProcFile file)
    {
        this.pid = pid;
        this.file = file;
    }

    /// <summary>Every VMA in the order of their addresses, as they were when this was first asked for.</summary>
    public IReadOnlyList<Vma> All => all ??= Maps.Read(pid);

    /// <exception cref="PvmmapException">ESRCH or EPERM.</exception>
    public static MapsFile Open(int pid) => new(pid, ProcFile.Open(pid, "maps"));

    /// <summary>The VMA at an address, or the next one above it; null if there is none.</summary>
    public Vma? FindFrom(ulong address)
    {
        if (all is null)
        {
            Span<byte> name = stackalloc byte[512];
            switch (file.Query(address, name, out ProcmapQuery.Query vma))
            {
                case Errno.None:
                    return FromQuery(vma, name);
                case Errno.ENOENT:
                    return null;
                default:
                    // Before Linux 6.11, or the name is too long.
                    break;
            }
        }
        return Listed(address);
    }

    /// <summary>Where that VMA is.</summary>
    public PageRange? FindRangeFrom(ulong address)
    {
        if (all is null)
        {
            switch (file.Query(address, [], out ProcmapQuery.Query vma))
            {
                case Errno.None:
                    return new PageRange(vma.Start, vma.End);
                case Errno.ENOENT:
                    return null;
                default:
                    break;
            }
        }
        return Listed(address)?.Range;
    }

    /// <summary>Where the hole begins that memory is mapped in from above, as far as it was looked for; 0: not yet.</summary>
    public ulong HoleStart { get; set; }

    /// <summary>The VMAs have changed: a list that was read is read again when it is needed.</summary>
    public void Refresh() => all = null;

    public void Dispose() => file.Dispose();

    private Vma? Listed(ulong address)
    {
        IReadOnlyList<Vma> vmas = All;
        int low = 0, high = vmas.Count;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (vmas[middle].Range.End <= address) low = middle + 1;
            else high = middle;
        }
        return low < vmas.Count ? vmas[low] : null;
    }

    private static Vma FromQuery(in ProcmapQuery.Query vma, ReadOnlySpan<byte> name) => new()
    {
        Range = new PageRange(vma.Start, vma.End),
        Protection = (Protection)(vma.Flags & (ProcmapQuery.PROCMAP_QUERY_VMA_READABLE | ProcmapQuery.PROCMAP_QUERY_VMA_WRITABLE | ProcmapQuery.PROCMAP_QUERY_VMA_EXECUTABLE)),
        Shared = (vma.Flags & ProcmapQuery.PROCMAP_QUERY_VMA_SHARED) != 0,
        Offset = vma.Offset,
        DeviceMajor = vma.DeviceMajor,
        DeviceMinor = vma.DeviceMinor,
        Inode = vma.Inode,
        Name = vma.NameSize > 1 ? Maps.ParseName(name[..((int)vma.NameSize - 1)]) : "",
    };
}
