using Pvmmap.Snapshots;
using Xunit;

namespace Pvmmap.Tests.Snapshots;

/// <summary>Which memory goes into a core: the rules of core(5), mapping by mapping.</summary>
public sealed class CoreSegmentTests
{
    private const ulong At = 0x7f0000000000, Page = FakeCoreSource.Page;
    private const string Lib = "/usr/lib/libc.so.6", Gone = "/tmp/gone (deleted)", Memfd = "/memfd:x (deleted)";

    /// <summary>With only the named bit the mapping is dumped, with all others it is not.</summary>
    [Theory]
    [InlineData(CoreFilter.AnonymousPrivate, "rw-p", "", 0, "rd wr mr mw me ac")]
    [InlineData(CoreFilter.AnonymousPrivate, "rw-p", "[heap]", 0, "rd wr mr mw me ac")]
    [InlineData(CoreFilter.AnonymousPrivate, "rw-p", "[anon:arena]", 0, "rd wr mr mw me ac")]
    [InlineData(CoreFilter.AnonymousShared, "rw-s", "/dev/zero (deleted)", 7, "rd wr sh mr mw me ms")]
    [InlineData(CoreFilter.AnonymousShared, "rw-s", "[anon_shmem:ring]", 7, "rd wr sh mr mw me ms")]
    [InlineData(CoreFilter.AnonymousShared, "rw-s", Memfd, 7, "rd wr sh mr mw me ms")]
    [InlineData(CoreFilter.AnonymousShared, "rw-s", "/SYSV00000000 (deleted)", 7, "rd wr sh mr mw me ms")]
    [InlineData(CoreFilter.AnonymousShared, "r--s", Gone, 7, "rd sh mr me ms")]
    [InlineData(CoreFilter.MappedShared, "rw-s", "/var/db", 7, "rd wr sh mr mw me ms")]
    [InlineData(CoreFilter.HugeTlbPrivate, "rw-p", "/anon_hugepage (deleted)", 7, "rd wr mr mw me de ht")]
    [InlineData(CoreFilter.HugeTlbShared, "rw-s", "/dev/hugepages/x", 7, "rd wr sh mr mw me ms de ht")]
    [InlineData(CoreFilter.DaxPrivate, "rw-p", "/pmem/x", 7, "rd wr mr mw me sf")]
    [InlineData(CoreFilter.DaxShared, "rw-s", "/pmem/x", 7, "rd wr sh mr mw me sf")]
    public void One_bit_decides(CoreFilter bit, string permissions, string name, ulong inode, string flags)
    {
        var source = new FakeCoreSource();
        source.Map(At, 4, permissions, name, inode, flags);
        source.Fill(At, 4);
        foreach (CoreFilter other in Enum.GetValues<CoreFilter>().Where(kind => kind is not CoreFilter.None and not CoreFilter.All))
            Assert.Equal((other, other == bit ? 4 * Page : 0), (other, Only(source, other).FileBytes));
        Assert.Equal(4 * Page, Only(source, CoreFilter.All).FileBytes);
        Assert.Equal(0UL, Only(source, CoreFilter.None).FileBytes);
    }

    [Fact]
    public void A_private_file_mapping_is_dumped_whole_when_it_was_written_to()
    {
        var source = new FakeCoreSource();
        source.Map(At, 4, "rw-p", Lib, 7, content: SnapshotContent.File);
        Assert.Equal(0UL, Only(source, CoreFilter.AnonymousPrivate).FileBytes);
        Assert.Equal(4 * Page, Only(source, CoreFilter.MappedPrivate).FileBytes);
        source.Fill(At + 2 * Page);
        CoreSegment segment = Only(source, CoreFilter.AnonymousPrivate);
        Assert.Equal(4 * Page, segment.FileBytes);
        Assert.Equal([segment.Range], segment.Extents); // the file's pages are read too
    }

    [Fact]
    public void Of_program_text_the_first_page_is_dumped_if_it_is_ELF()
    {
        var source = new FakeCoreSource();
        SnapshotRange text = source.Map(At, 4, "r-xp", Lib, 7, "rd ex mr mw me", SnapshotContent.File);
        CoreSegment segment = Only(source, CoreFilter.ElfHeaders);
        Assert.Equal(Page, segment.FileBytes);
        Assert.Equal([new PageRange(At, At + Page)], segment.Extents);

        var later = new FakeCoreSource();
        later.Map(At, 4, "r-xp", Lib, 7, "rd ex mr mw me", SnapshotContent.File);
        later.Fill(At); // no ELF magic there
        Assert.Equal(0UL, Only(later, CoreFilter.ElfHeaders).FileBytes);
        Assert.False(text.IsWritable);
    }

    [Fact]
    public void What_was_excluded_is_left_out_unless_it_is_asked_for()
    {
        var source = new FakeCoreSource();
        source.Map(At, 4, flags: "rd wr mr mw me dd");
        source.Fill(At, 4);
        Assert.Equal(0UL, Only(source, CoreFilter.All).FileBytes);
        Assert.Equal(4 * Page, Only(source, CoreFilter.AnonymousPrivate, includeDontDump: true).FileBytes);
    }

    [Fact]
    public void Of_the_kernels_own_mappings_only_the_vdso_is_dumped_and_that_always()
    {
        var source = new FakeCoreSource();
        source.Map(At, 2, "r-xp", "[vdso]", flags: "rd ex mr mw me de");
        source.Map(At + 2 * Page, 4, "r--p", "[vvar]", flags: "rd mr pf io de dd");
        source.Map(At + 6 * Page, 2, "r--p", "[vvar_vclock]", flags: "rd mr pf io de dd");
        source.Map(0xffffffffff600000, 1, "--xp", "[vsyscall]", flags: "ex");
        foreach (CoreFilter filter in (CoreFilter[])[CoreFilter.None, CoreFilter.All])
            Assert.Equal([2 * Page, 0, 0, 0], Choose(source, filter, includeDontDump: true).Select(segment => segment.FileBytes));
    }

    [Fact]
    public void Device_memory_is_left_out()
    {
        var source = new FakeCoreSource();
        source.Map(At, 4, "rw-s", "/dev/dri/card0", 7, "rd wr sh mr mw me ms io pf");
        Assert.Equal(0UL, Only(source, CoreFilter.All).FileBytes);
    }

    [Fact]
    public void A_reserve_of_addresses_takes_no_room_and_what_was_hidden_after_use_is_dumped()
    {
        var source = new FakeCoreSource();
        source.Map(At, 1UL << 26, "---p", flags: "mr mw me nr"); // 256 GiB
        source.Map(At + (1UL << 40), 4, "---p", flags: "mr mw me");
        source.Fill(At + (1UL << 40) + Page);
        Assert.Equal([0, 4 * Page], Choose(source, CoreFilter.AnonymousPrivate).Select(segment => segment.FileBytes));
    }

    [Fact]
    public void What_the_snapshot_does_not_have_is_told_of_if_it_was_wanted()
    {
        var source = new FakeCoreSource();
        SnapshotRange shared = source.Map(At, 4, "rw-s", Memfd, 7, content: SnapshotContent.Absent);
        source.Map(At + 4 * Page, 4, "rw-s", "/var/db", 7, content: SnapshotContent.Absent);
        (IReadOnlyList<CoreSegment> segments, IReadOnlyList<SnapshotRange> missing) = CoreSegment.Choose(source, CoreFilter.AnonymousShared, false);
        CoreSegment unwanted = Assert.Single(segments); // as the kernel has it: told of, without content
        Assert.Equal(("/var/db", 0UL), (unwanted.Mapping.Name, unwanted.FileBytes));
        Assert.Equal([shared], missing);
    }

    private static CoreSegment Only(FakeCoreSource source, CoreFilter filter, bool includeDontDump = false) => Assert.Single(Choose(source, filter, includeDontDump));

    private static IReadOnlyList<CoreSegment> Choose(FakeCoreSource source, CoreFilter filter, bool includeDontDump = false) =>
        CoreSegment.Choose(source, filter, includeDontDump).Segments;
}
