namespace Pvmmap.Procfs;

/// <summary>/proc/PID/smaps: the VMAs of a process with their flags and what is resident of them.</summary>
internal static class Smaps
{
    // The kernel fills at most one page per read, so a larger buffer would not walk more page tables ahead of what is needed.
    public const int Chunk = 4096;

    // Less than one VMA's text: the kernel prints the next VMA when what it has printed is read up.
    public const int SmallChunk = 256;

    private static readonly PageRange s_everything = new(0, ulong.MaxValue);

    /// <exception cref="FormatException">A line is not one that the kernel writes.</exception>
    public static List<SmapsEntry> Parse(ReadOnlySpan<byte> text)
    {
        var lines = new Lines(s_everything);
        lines.Add(text);
        return lines.Finish();
    }

    /// <summary>All VMAs of a live process; none if it is a kernel thread or is exiting.</summary>
    /// <exception cref="PvmmapException">ESRCH or EPERM.</exception>
    public static List<SmapsEntry> Read(int pid) => Read(pid, s_everything);

    /// <summary>The VMAs that overlap <paramref name="within"/>.</summary>
    /// <remarks>
    /// The kernel walks the page tables of every VMA it prints: what lies behind the range is not read. What lies before it
    /// cannot be skipped, for a seq_file finds its place by printing everything up to there.
    /// </remarks>
    /// <exception cref="PvmmapException">ESRCH or EPERM.</exception>
    public static List<SmapsEntry> Read(int pid, PageRange within) => Read(pid, within, Chunk);

    /// <summary>The first VMAs of a process, those that overlap <paramref name="within"/>, and hardly a page table of the others.</summary>
    /// <exception cref="PvmmapException">ESRCH or EPERM.</exception>
    public static List<SmapsEntry> ReadFirst(int pid, PageRange within) => Read(pid, within, SmallChunk);

    private static List<SmapsEntry> Read(int pid, PageRange within, int chunk)
    {
        var lines = new Lines(within);
        ProcFile.ReadLines(pid, "smaps", chunk, lines);
        return lines.Finish();
    }

    /// <summary>Gathers the lines of one VMA after the other into entries.</summary>
    private sealed class Lines(PageRange within) : ILineReader
    {
        private readonly List<SmapsEntry> _entries = [];
        private Vma? _vma;
        private VmFlags _flags;
        private ulong _rss, _pss, _anonymous, _anonHugePages, _swap, _locked, _kernelPageSize;
        private ulong _sharedClean, _sharedDirty, _privateClean, _privateDirty, _referenced, _shmemPmdMapped, _sharedHugetlb, _privateHugetlb, _swapPss;
        private int _protectionKey;

        /// <summary>A VMA behind the range has been seen.</summary>
        public bool IsDone { get; private set; }

        public void Add(ReadOnlySpan<byte> text)
        {
            while (!IsDone && ProcText.NextLine(ref text, out ReadOnlySpan<byte> line))
            {
                // Names of fields begin with a capital, addresses are in small hexadecimal digits.
                if (line.IsEmpty || line[0] is not (>= (byte)'A' and <= (byte)'Z')) Begin(Maps.ParseLine(line, _vma?.Name ?? ""));
                else if (_vma is null) throw new ProcText(line).Malformed();
                else Field(line);
            }
        }

        public List<SmapsEntry> Finish()
        {
            End();
            return _entries;
        }

        private void Begin(Vma vma)
        {
            End();
            _vma = vma;
            IsDone = vma.Range.Start >= within.End;
            _flags = VmFlags.None;
            _rss = _pss = _anonymous = _anonHugePages = _swap = _locked = _kernelPageSize = 0;
            _sharedClean = _sharedDirty = _privateClean = _privateDirty = _referenced = _shmemPmdMapped = _sharedHugetlb = _privateHugetlb = _swapPss = 0;
            _protectionKey = 0;
        }

        private void End()
        {
            if (_vma is null || !_vma.Range.Overlaps(within)) return;
            _entries.Add(new SmapsEntry
            {
                Vma = _vma,
                Flags = _flags,
                Rss = _rss,
                Pss = _pss,
                Anonymous = _anonymous,
                AnonHugePages = _anonHugePages,
                Swap = _swap,
                Locked = _locked,
                SharedClean = _sharedClean,
                SharedDirty = _sharedDirty,
                PrivateClean = _privateClean,
                PrivateDirty = _privateDirty,
                Referenced = _referenced,
                ShmemPmdMapped = _shmemPmdMapped,
                SharedHugetlb = _sharedHugetlb,
                PrivateHugetlb = _privateHugetlb,
                SwapPss = _swapPss,
                KernelPageSize = _kernelPageSize,
                ProtectionKey = _protectionKey,
            });
        }

        private void Field(ReadOnlySpan<byte> line)
        {
            var text = new ProcText(line);
            ReadOnlySpan<byte> name = text.Name();
            if (name.SequenceEqual("Rss"u8)) _rss = text.Kilobytes();
            else if (name.SequenceEqual("Pss"u8)) _pss = text.Kilobytes();
            else if (name.SequenceEqual("Anonymous"u8)) _anonymous = text.Kilobytes();
            else if (name.SequenceEqual("AnonHugePages"u8)) _anonHugePages = text.Kilobytes();
            else if (name.SequenceEqual("Swap"u8)) _swap = text.Kilobytes();
            else if (name.SequenceEqual("Locked"u8)) _locked = text.Kilobytes();
            else if (name.SequenceEqual("Shared_Clean"u8)) _sharedClean = text.Kilobytes();
            else if (name.SequenceEqual("Shared_Dirty"u8)) _sharedDirty = text.Kilobytes();
            else if (name.SequenceEqual("Private_Clean"u8)) _privateClean = text.Kilobytes();
            else if (name.SequenceEqual("Private_Dirty"u8)) _privateDirty = text.Kilobytes();
            else if (name.SequenceEqual("Referenced"u8)) _referenced = text.Kilobytes();
            else if (name.SequenceEqual("ShmemPmdMapped"u8)) _shmemPmdMapped = text.Kilobytes();
            else if (name.SequenceEqual("Shared_Hugetlb"u8)) _sharedHugetlb = text.Kilobytes();
            else if (name.SequenceEqual("Private_Hugetlb"u8)) _privateHugetlb = text.Kilobytes();
            else if (name.SequenceEqual("SwapPss"u8)) _swapPss = text.Kilobytes();
            else if (name.SequenceEqual("KernelPageSize"u8)) _kernelPageSize = text.Kilobytes();
            else if (name.SequenceEqual("VmFlags"u8)) _flags = VmFlagsCodes.Parse(text.Rest);
            else if (name.SequenceEqual("ProtectionKey"u8)) _protectionKey = text.Int32();
        }
    }
}
