using Pvmmap.Procfs;

namespace Pvmmap.Source;

/// <summary>What lies in the range that is to be taken: refuses what cannot be, and cuts the rest into pieces of equal kind.</summary>
internal sealed class SourcePlan
{
    /// <summary>Attributes that the target's VMA gets too.</summary>
    public const VmFlags Carried = VmFlags.GrowsDown | VmFlags.NoReserve | VmFlags.HugePage | VmFlags.NoHugePage | VmFlags.DontDump | VmFlags.Mergeable |
        VmFlags.SeqRead | VmFlags.RandRead;

    /// <summary>MADV_DONTFORK and MADV_WIPEONFORK: a fork would not see these pages unless the advice is lifted for the instant.</summary>
    public const VmFlags WithheldFromFork = VmFlags.DontCopy | VmFlags.WipeOnFork;

    // Of other than anonymous memory: how it can be mapped.
    private const VmFlags TellingTheKind = VmFlags.HugeTlb | VmFlags.MayWrite;

    private const VmFlags Unusual = VmFlags.Io | VmFlags.PfnMap | VmFlags.MixedMap;

    // What the kernel names objects that are not files but its own: their pages are worth nothing to anybody else.
    private static readonly string[] s_kernelObjects = ["anon_inode:", "/[aio]", "/secretmem", "/dmabuf:"];
    private const string AnonymousHugePages = "/anon_hugepage";

    private SourcePlan(PageRange range, List<SourcePiece> pieces, List<PageRange> parts, bool readable, bool exact)
    {
        Parts = parts;
        IsReadable = readable;
        IsExact = exact;
        Range = range;
        Pieces = pieces;
    }

    public PageRange Range { get; }

    /// <summary>In order of addresses, without gaps.</summary>
    public IReadOnlyList<SourcePiece> Pieces { get; }

    /// <summary>The same range by the source's own VMAs: pieces join those that differ in nothing that is carried.</summary>
    public IReadOnlyList<PageRange> Parts { get; }

    /// <summary>True if the attributes are known too, not only coverage and kinds.</summary>
    public bool IsExact { get; }

    /// <summary>Nothing but private anonymous memory.</summary>
    public bool IsAnonymous => Pieces.All(piece => piece.IsAnonymous);

    /// <summary>True if some of it cannot be unmapped (mseal()).</summary>
    public bool IsSealed => Pieces.Any(piece => piece.Flags.HasFlag(VmFlags.Sealed));

    /// <summary>True if the source has to stand still until the target has it all.</summary>
    public bool MustStandStill => Pieces.Any(piece => piece.MustStandStill);

    /// <summary>The range, and the target's, begin at equal distances from a multiple of this: the largest page in it.</summary>
    public ulong Alignment => Pieces.Max(piece => piece.PageBytes);

    /// <summary>The private anonymous memory in it, neighbours joined.</summary>
    public IEnumerable<PageRange> AnonymousRuns
    {
        get
        {
            PageRange run = default;
            foreach (SourcePiece piece in Pieces)
            {
                if (piece.IsAnonymous)
                {
                    run = run.Length == 0 ? piece.Range : new PageRange(run.Start, piece.Range.End);
                    continue;
                }
                if (run.Length != 0) yield return run;
                run = default;
            }
            if (run.Length != 0) yield return run;
        }
    }

    /// <summary>False if some of the anonymous memory is protected against reading, by its protection or by a protection key.</summary>
    public bool IsReadable { get; }

    /// <summary>Coverage and kinds as /proc/PID/maps shows them, without attributes: quick, whatever the size. EFAULT names what is wrong.</summary>
    public static SourcePlan FromMaps(int pid, PageRange range) =>
        Check(pid, range, Maps.Read(pid, range).Select(vma => new SmapsEntry { Vma = vma }), exact: false);

    /// <summary>The same with attributes, from smaps: the kernel walks every page up to the end of the range for that (20 ms/GiB in 4 KiB pages).</summary>
    public static SourcePlan FromSmaps(int pid, PageRange range) => Check(pid, range, Smaps.Read(pid, range));

    /// <summary>The same with memory policies, which only a process without one of its own shows right.</summary>
    /// <param name="pid">Whose mappings they are.</param>
    /// <param name="range">What of them.</param>
    /// <param name="policiesOf">Who shows the policies.</param>
    /// <param name="mayBeAskedHere">They are also this process's: it can be asked first whether there is any at all, which is quicker.</param>
    public static SourcePlan WithPolicies(int pid, PageRange range, int policiesOf, bool mayBeAskedHere = false)
    {
        List<SmapsEntry> entries = Smaps.Read(pid, range);
        Dictionary<ulong, MemoryPolicy> policies = mayBeAskedHere && entries.TrueForAll(entry => MemoryPolicy.IsDefaultHere(entry.Vma.Range.Start)) ? [] : NumaMaps.Read(policiesOf, range);
        return Check(pid, range, entries.Select(entry => entry with { Policy = policies.GetValueOrDefault(entry.Vma.Range.Start) }));
    }

    /// <summary>The same, from the attributes of each VMA of the range, wherever they were read.</summary>
    public SourcePlan WithAttributes(int pid, IEnumerable<SmapsEntry> attributes) =>
        Check(pid, Range, attributes.Zip(Parts, (entry, part) => new SmapsEntry { Vma = entry.Vma with { Range = part }, Flags = entry.Flags, ProtectionKey = entry.ProtectionKey, Policy = entry.Policy }));

    /// <summary>The same on VMAs already read.</summary>
    public static SourcePlan Check(int pid, PageRange range, IEnumerable<SmapsEntry> entries, bool exact = true)
    {
        List<SourcePiece> pieces = [];
        List<PageRange> parts = [];
        bool readable = true;
        ulong at = range.Start;
        foreach (SmapsEntry entry in entries)
        {
            PageRange part = entry.Vma.Range.Intersect(range);
            if (part.Length == 0) continue;
            if (part.Start > at) break;
            Refuse(pid, part, entry);
            parts.Add(part);
            SourcePiece piece = Classify(pid, part, entry);
            readable &= !piece.IsAnonymous || (entry.Vma.Protection.HasFlag(Protection.Read) && entry.ProtectionKey == 0);
            if (pieces.Count > 0 && pieces[^1] with { Range = part } == piece)
                pieces[^1] = piece with { Range = new PageRange(pieces[^1].Range.Start, part.End) };
            else
                pieces.Add(piece);
            at = part.End;
        }
        if (at < range.End)
            throw new PvmmapException(Errno.EFAULT, "read the source's memory map", pid, new PageRange(at, range.End), "nothing is mapped at the start of this range; see /proc/PID/maps, and take what lies before and behind the hole");
        return new SourcePlan(range, pieces, parts, readable, exact);
    }

    private static SourcePiece Classify(int pid, PageRange part, SmapsEntry entry)
    {
        Vma vma = entry.Vma;
        VmFlags flags = entry.Flags & (Carried | WithheldFromFork | VmFlags.Sealed);
        MemoryKind kind = IsAnonymousHugePages(vma) && !vma.Shared ? MemoryKind.PrivateHugePages
            : vma.Shared ? MemoryKind.Shared : vma.IsFileBacked ? MemoryKind.PrivateFile : MemoryKind.Anonymous;
        if (kind == MemoryKind.Anonymous) return new SourcePiece(part, vma.Protection, flags, vma.AnonymousName) { Policy = entry.Policy };
        ulong page = Math.Max(entry.KernelPageSize, PageRange.PageSize);
        if ((part.Start | part.Length) % page != 0)
        {
            throw new PvmmapException(Errno.EINVAL, "read the source's memory map", pid, part,
                $"{vma}: the range cuts a huge page; begin and end it at multiples of {page} bytes");
        }
        flags |= entry.Flags & TellingTheKind;
        if (IsAnonymousHugePages(vma)) flags |= VmFlags.HugeTlb;
        return new SourcePiece(part, vma.Protection, flags, kind == MemoryKind.Shared ? vma.AnonymousName : null)
        {
            Kind = kind,
            Policy = kind == MemoryKind.Shared ? null : entry.Policy,
            Mapped = vma with { Range = part, Offset = vma.Offset + (part.Start - vma.Range.Start) },
            PageBytes = page,
        };
    }

    private static bool IsAnonymousHugePages(Vma vma) => vma.IsFileBacked && vma.Path == AnonymousHugePages;

    private static void Refuse(int pid, PageRange part, SmapsEntry entry)
    {
        string? reason = (entry.Vma, entry.Flags) switch
        {
            ({ IsSpecial: true }, _) => "it belongs to the kernel",
            (_, var flags) when (flags & Unusual) != 0 => "it maps device memory or raw page frames",
            (_, var flags) when flags.HasFlag(VmFlags.Droppable) => "its pages may vanish at any time (MAP_DROPPABLE)",
            (_, var flags) when flags.HasFlag(VmFlags.ShadowStack) => "it is a shadow stack, which only the processor may write",
            ({ IsFileBacked: true, Name: var name }, _) when s_kernelObjects.Any(o => name.StartsWith(o, StringComparison.Ordinal)) =>
                "it maps an object of the kernel's (io_uring, AIO, perf, secret memory, a device buffer)",
            _ => null,
        };
        if (reason is not null)
            throw new PvmmapException(Errno.EFAULT, "read the source's memory map", pid, part, $"{entry.Vma}: {reason}; take what lies before and behind it");
    }
}
