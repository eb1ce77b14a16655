using System.Globalization;
using System.Text;
using CsCheck;
using Pvmmap.Procfs;
using Xunit;

namespace Pvmmap.Tests.Procfs;

public class SmapsTests
{
    private const string Linux_6_18 = """
        55dc3e8f1000-55dc3e9f3000 rw-p 00000000 00:00 0                          [heap]
        Size:               1032 kB
        KernelPageSize:        4 kB
        MMUPageSize:           4 kB
        Rss:                 520 kB
        Pss:                 260 kB
        Pss_Dirty:           260 kB
        Shared_Clean:          0 kB
        Shared_Dirty:        520 kB
        Private_Clean:         0 kB
        Private_Dirty:         0 kB
        Referenced:          516 kB
        Anonymous:           512 kB
        KSM:                   0 kB
        LazyFree:              0 kB
        AnonHugePages:       256 kB
        ShmemPmdMapped:        0 kB
        FilePmdMapped:         0 kB
        Shared_Hugetlb:        0 kB
        Private_Hugetlb:       0 kB
        Swap:                 96 kB
        SwapPss:              48 kB
        Locked:               12 kB
        THPeligible:           1
        ProtectionKey:         3
        VmFlags: rd wr mr mw me ac sd
        7f0000000000-7f0000200000 rw-s 00000000 00:0f 1063                       /anon_hugepage (deleted)
        Size:               2048 kB
        KernelPageSize:     2048 kB
        VmFlags: rd wr sh mr mw me ms de ht

        """;

    // The oldest form that may be met: Linux 4.18 without SwapPss, THPeligible and ProtectionKey.
    private const string Linux_4_18 = """
        00400000-0040b000 r-xp 00000000 fd:00 134417                             /usr/bin/cat
        Size:                 44 kB
        KernelPageSize:        4 kB
        MMUPageSize:           4 kB
        Rss:                  44 kB
        Pss:                   3 kB
        Anonymous:             0 kB
        VmFlags: rd ex mr mw me dw
        """;

    [Fact]
    public void The_fields_we_use_are_read_and_the_others_passed_over()
    {
        List<SmapsEntry> entries = Smaps.Parse(Encoding.UTF8.GetBytes(Linux_6_18));
        Assert.Equal(2, entries.Count);
        Assert.Equal(
            new SmapsEntry
            {
                Vma = new Vma
                {
                    Range = new PageRange(0x55dc3e8f1000, 0x55dc3e9f3000),
                    Protection = Protection.Read | Protection.Write,
                    Name = "[heap]",
                },
                Flags = VmFlags.Read | VmFlags.Write | VmFlags.MayRead | VmFlags.MayWrite | VmFlags.MayExec | VmFlags.Account | VmFlags.SoftDirty,
                Rss = 520 << 10,
                Pss = 260 << 10,
                Anonymous = 512 << 10,
                AnonHugePages = 256 << 10,
                Swap = 96 << 10,
                Locked = 12 << 10,
                SharedDirty = 520 << 10,
                Referenced = 516 << 10,
                SwapPss = 48 << 10,
                KernelPageSize = 4096,
                ProtectionKey = 3,
            },
            entries[0]);
        Assert.Equal(2ul << 20, entries[1].KernelPageSize);
        Assert.True(entries[1].Flags.HasFlag(VmFlags.HugeTlb | VmFlags.DontExpand));
        Assert.Equal((0ul, 0ul, 0), (entries[1].Rss, entries[1].Locked, entries[1].ProtectionKey));
    }

    [Fact]
    public void Lines_that_an_old_kernel_lacks_count_as_nothing()
    {
        SmapsEntry entry = Assert.Single(Smaps.Parse(Encoding.UTF8.GetBytes(Linux_4_18)));
        Assert.Equal((44ul << 10, 0ul, 0), (entry.Rss, entry.Swap, entry.ProtectionKey));
        Assert.True(entry.Flags.HasFlag(VmFlags.DenyWrite));
    }

    [Theory]
    [InlineData("Rss:                   0 kB\n")]
    [InlineData("1000-2000 rw-p 00000000 00:00 0 \nRss:  x kB\n")]
    [InlineData("1000-2000 rw-p 00000000 00:00 0 \nRss:  4\n")]
    [InlineData("1000-2000 rw-p 00000000 00:00 0 \nRss:  4 MB\n")]
    [InlineData("1000-2000 rw-p 00000000 00:00 0 \nRss:  18446744073709551615 kB\n")]
    [InlineData("1000-2000 rw-p 00000000 00:00 0 \nRss  4 kB\n")]
    [InlineData("1000-2000 rw-p 00000000 00:00 0 \n\nRss:  4 kB\n")]
    [InlineData("1000-2000 rw-p 00000000 00:00 0 \nProtectionKey: \n")]
    [InlineData("1000-2000 rw-p 00000000 00:00 0 \nVmFlags: read\n")]
    public void Text_the_kernel_does_not_write_is_a_FormatException(string text) =>
        Assert.Throws<FormatException>(() => Smaps.Parse(Encoding.UTF8.GetBytes(text)));

    // A second list of some codes, so that the test does not read with the table it checks.
    private static readonly Dictionary<VmFlags, string> s_codes = new()
    {
        [VmFlags.Read] = "rd",
        [VmFlags.DontCopy] = "dc",
        [VmFlags.GrowsDown] = "gd",
        [VmFlags.UffdMissing] = "um",
        [VmFlags.WipeOnFork] = "wf",
        [VmFlags.NoReserve] = "nr",
        [VmFlags.Sealed] = "sl",
        [VmFlags.PfnMap] = "pf",
    };

    private static readonly Gen<SmapsEntry> s_entry =
        Gen.Select(Gens.Vma, Gen.ULong[0, 1UL << 40].Array[16], Gen.Int[0, 15], Gen.ULong).Select((vma, kilobytes, key, flags) => new SmapsEntry
        {
            Vma = vma,
            Rss = kilobytes[0] << 10,
            Pss = kilobytes[1] << 10,
            Anonymous = kilobytes[2] << 10,
            AnonHugePages = kilobytes[3] << 10,
            Swap = kilobytes[4] << 10,
            Locked = kilobytes[5] << 10,
            KernelPageSize = kilobytes[6] << 10,
            SharedClean = kilobytes[7] << 10,
            SharedDirty = kilobytes[8] << 10,
            PrivateClean = kilobytes[9] << 10,
            PrivateDirty = kilobytes[10] << 10,
            Referenced = kilobytes[11] << 10,
            ShmemPmdMapped = kilobytes[12] << 10,
            SharedHugetlb = kilobytes[13] << 10,
            PrivateHugetlb = kilobytes[14] << 10,
            SwapPss = kilobytes[15] << 10,
            ProtectionKey = key,
            Flags = (VmFlags)flags & s_codes.Keys.Aggregate((a, b) => a | b),
        });

    private static string Text(SmapsEntry entry)
    {
        string codes = string.Concat(s_codes.Where(pair => entry.Flags.HasFlag(pair.Key)).Select(pair => pair.Value + " "));
        return Gens.MapsLine(entry.Vma) + string.Create(CultureInfo.InvariantCulture, $"""
            Size:           {entry.Vma.Range.Length >> 10,8} kB
            KernelPageSize: {entry.KernelPageSize >> 10,8} kB
            Rss:            {entry.Rss >> 10,8} kB
            Pss:            {entry.Pss >> 10,8} kB
            Pss_Dirty:             7 kB
            Anonymous:      {entry.Anonymous >> 10,8} kB
            AnonHugePages:  {entry.AnonHugePages >> 10,8} kB
            Swap:           {entry.Swap >> 10,8} kB
            Shared_Clean:   {entry.SharedClean >> 10,8} kB
            Shared_Dirty:   {entry.SharedDirty >> 10,8} kB
            Private_Clean:  {entry.PrivateClean >> 10,8} kB
            Private_Dirty:  {entry.PrivateDirty >> 10,8} kB
            Referenced:     {entry.Referenced >> 10,8} kB
            ShmemPmdMapped: {entry.ShmemPmdMapped >> 10,8} kB
            Shared_Hugetlb: {entry.SharedHugetlb >> 10,8} kB
            Private_Hugetlb:{entry.PrivateHugetlb >> 10,8} kB
            SwapPss:        {entry.SwapPss >> 10,8} kB
            Locked:         {entry.Locked >> 10,8} kB
            THPeligible:           1
            ProtectionKey:  {entry.ProtectionKey,8}
            VmFlags: {codes}

            """);
    }

    [Fact]
    public void What_the_kernel_would_write_is_read_back() =>
        s_entry.List[0, 8].Sample(entries => Assert.Equal(entries, Smaps.Parse(Encoding.UTF8.GetBytes(string.Concat(entries.Select(Text))))));

    [Fact]
    public void Damaged_text_is_a_FormatException_or_a_list() =>
        Gens.Damaged(s_entry.Select(Text)).Sample(text => Gens.ParsesOrSaysMalformed(text, t => Smaps.Parse(t)), iter: 2000);

    [Fact]
    public void The_callers_own_smaps_and_maps_name_the_same_files()
    {
        IEnumerable<string> Libraries(IEnumerable<Vma> vmas) =>
            vmas.Where(vma => vma.Path.EndsWith(".so", StringComparison.Ordinal)).Select(vma => vma.ToString());

        List<SmapsEntry> entries = Smaps.Read(Environment.ProcessId);
        Assert.Equal(Libraries(Maps.Read(Environment.ProcessId)), Libraries(entries.Select(entry => entry.Vma)));
        Assert.All(entries, entry => Assert.False(entry.Flags.HasFlag(VmFlags.Unknown)));
        Assert.All(entries, entry => Assert.Equal(entry.Vma.Protection.HasFlag(Protection.Write), entry.Flags.HasFlag(VmFlags.Write)));
        Assert.All(entries, entry => Assert.Equal(entry.Vma.Shared, entry.Flags.HasFlag(VmFlags.MayShare)));
        Assert.Contains(entries, entry => entry.Vma.IsStack && entry.Flags.HasFlag(VmFlags.GrowsDown | VmFlags.Account) && entry.Rss > 0);
    }

    [Fact]
    public void Only_entries_that_overlap_the_range_come_back()
    {
        List<Vma> libraries = Maps.Read(Environment.ProcessId).FindAll(vma => vma.Path.EndsWith("/libcoreclr.so", StringComparison.Ordinal));
        Assert.True(libraries.Count >= 3);
        var within = new PageRange(libraries[0].Range.End - PageRange.PageSize, libraries[^1].Range.Start + PageRange.PageSize);
        List<SmapsEntry> entries = Smaps.Read(Environment.ProcessId, within);
        Assert.All(entries, entry => Assert.True(entry.Vma.Range.Overlaps(within)));
        Assert.Equal(libraries, entries.Select(entry => entry.Vma).Where(vma => vma.IsFileBacked));
        Assert.All(entries, entry => Assert.Equal(PageRange.PageSize, entry.KernelPageSize));
    }

    [Fact]
    public void What_lies_behind_the_range_is_not_read()
    {
        const string io = "/proc/thread-self/io";
        if (!File.Exists(io)) Assert.Skip("the kernel counts no reads (CONFIG_TASK_IO_ACCOUNTING)");
        // The file read here is counted too; it is small, and alike in every difference.
        static long BytesRead() => long.Parse(File.ReadLines(io).First()["rchar: ".Length..], CultureInfo.InvariantCulture);

        Vma first = Maps.Read(Environment.ProcessId)[0];
        long before = BytesRead();
        Assert.Equal(first, Assert.Single(Smaps.Read(Environment.ProcessId, first.Range)).Vma);
        long one = BytesRead() - before;
        before = BytesRead();
        Smaps.Read(Environment.ProcessId);
        long all = BytesRead() - before;
        Assert.InRange(one, 1, 2 * 4096);
        Assert.True(all > 10 * one, $"{all} bytes for everything, {one} for the first");
    }

    [Fact]
    public void A_process_that_does_not_exist_is_ESRCH() =>
        Assert.Equal(Errno.ESRCH, Assert.Throws<PvmmapException>(() => Smaps.Read((4 << 20) + 1)).Errno);
}
