using Pvmmap.Procfs;

namespace Pvmmap.Snapshots;

/// <summary>One mapping of the process that is captured, and what becomes of it.</summary>
/// <param name="Vma">As maps showed it while the process stood still.</param>
/// <param name="Flags">Of smaps, shortly before; nothing for a mapping that is newer.</param>
/// <param name="Codes">The same as smaps writes them.</param>
/// <param name="Usage">Of smaps too; null for a mapping that is newer.</param>
internal sealed record SnapshotArea(Vma Vma, VmFlags Flags, string Codes, SnapshotUsage? Usage = null)
{
    private const VmFlags Device = VmFlags.Io | VmFlags.PfnMap | VmFlags.MixedMap;

    public PageRange Range => Vma.Range;

    public bool IsAnonymous => !Vma.IsFileBacked && !Vma.Shared && !Vma.IsSpecial;

    /// <summary>Of a pool of huge pages: a fork does not keep the private ones.</summary>
    public bool IsPrivateHugePages => !Vma.Shared && (Flags.HasFlag(VmFlags.HugeTlb) || Vma.Path == "/anon_hugepage");

    /// <summary>A file mapped private: pages that were never touched are the file's, not zeros.</summary>
    public bool IsPrivateFile => Vma.IsFileBacked && !Vma.Shared && !Vma.IsSpecial && !IsPrivateHugePages;

    /// <summary>Shared memory that the process, or whoever shares it, may change.</summary>
    public bool IsWritableShared => Vma.Shared && (Vma.Protection.HasFlag(Protection.Write) || Codes.Length == 0 || Flags.HasFlag(VmFlags.MayWrite));

    /// <summary>Shared memory that is to be copied.</summary>
    public bool IsTakenShared(SnapshotOptions options) => IsWritableShared && Refusal is null && options.SharedMemory
        && (CoreFilters.OfShared(Codes, Vma.IsFileBacked, Vma.Name) & options.SharedKinds) != 0 && (options.SharedDontDump || !CoreFilters.Has(Codes, "dd"));

    /// <summary>A userfaultfd may be registered there.</summary>
    public bool MayBeGuarded => (Flags & (Device | VmFlags.Droppable | VmFlags.ShadowStack)) == 0 && !Vma.IsSpecial;

    /// <summary>Missing pages there are somebody else's to deliver.</summary>
    public bool IsGuarded => (Flags & (VmFlags.UffdMissing | VmFlags.UffdMinor)) != 0;

    /// <summary>Why nothing of it can be had; null if it can.</summary>
    public string? Refusal => (Flags & Device) != 0 ? "it maps device memory or raw page frames"
        : Vma is { IsSpecial: true } and not { Name: "[vdso]" } ? "it belongs to the kernel"
        : IsGuarded ? "it is registered with a userfaultfd that is not ours: its missing pages are somebody else's to deliver"
        : null;

    /// <summary>Joins the lines of maps with what smaps showed shortly before.</summary>
    public static List<SnapshotArea> Join(List<Vma> vmas, IReadOnlyList<SmapsEntry> entries)
    {
        List<SnapshotArea> areas = new(vmas.Count);
        int next = 0;
        foreach (Vma vma in vmas)
        {
            while (next < entries.Count && entries[next].Vma.Range.End <= vma.Range.Start) next++;
            VmFlags flags = VmFlags.None;
            string codes = "";
            SnapshotUsage? usage = null;
            for (int i = next; i < entries.Count && entries[i].Vma.Range.Start < vma.Range.End; i++)
            {
                // Something else has been mapped there since.
                if (entries[i].Vma.Inode != vma.Inode || entries[i].Vma.Shared != vma.Shared) continue;
                flags |= entries[i].Flags;
                codes = VmFlagsCodes.Format(flags);
                usage = (usage ?? new SnapshotUsage()).With(entries[i]);
            }
            areas.Add(new SnapshotArea(vma, flags, codes, usage));
        }
        return areas;
    }

    /// <summary>The mappings of a range in a process that has a copy of them.</summary>
    public static IEnumerable<SnapshotRange> Describe(IEnumerable<Vma> vmas, PageRange range) =>
        vmas.Where(vma => vma.Range.Overlaps(range)).Select(vma => new SnapshotArea(vma, VmFlags.None, "").Describe(vma.Range.Intersect(range), copied: false, null));

    /// <summary>The part of it that is wanted.</summary>
    /// <param name="range">That part.</param>
    /// <param name="copied">Its content has been copied to where it was.</param>
    /// <param name="refusal">Why nothing of it is there; null if it is.</param>
    public SnapshotRange Describe(PageRange range, bool copied, string? refusal)
    {
        return new SnapshotRange
        {
            Range = range,
            Permissions = new string([Letter(Protection.Read, 'r'), Letter(Protection.Write, 'w'), Letter(Protection.Execute, 'x'), Vma.Shared ? 's' : 'p']),
            Offset = Vma.IsFileBacked ? Vma.Offset + (range.Start - Vma.Range.Start) : 0,
            DeviceMajor = Vma.DeviceMajor,
            DeviceMinor = Vma.DeviceMinor,
            Inode = Vma.Inode,
            Name = Vma.Name,
            Flags = Codes,
            Usage = Usage,
            Content = refusal is not null ? SnapshotContent.Absent : copied || !Vma.IsFileBacked ? SnapshotContent.Taken : SnapshotContent.File,
            Reason = refusal,
        };

        char Letter(Protection bit, char letter) => Vma.Protection.HasFlag(bit) ? letter : '-';
    }
}
