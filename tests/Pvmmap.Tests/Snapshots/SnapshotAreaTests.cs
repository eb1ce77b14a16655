using Pvmmap.Procfs;
using Pvmmap.Snapshots;
using Xunit;

namespace Pvmmap.Tests.Snapshots;

/// <summary>What becomes of a mapping in a capture: which shared memory is copied, and what is told of it.</summary>
public sealed class SnapshotAreaTests
{
    private const ulong At = 0x7f0000000000, Page = PageRange.PageSize;

    /// <summary>Shared memory is copied if a core with the same filter would have it.</summary>
    [Theory]
    [InlineData("/dev/zero (deleted)", "rd wr sh mr mw me ms", CoreFilter.AnonymousShared)]
    [InlineData("/SYSV00000000 (deleted)", "rd wr sh mr mw me ms", CoreFilter.AnonymousShared)]
    [InlineData("[anon_shmem:ring]", "rd wr sh mr mw me ms", CoreFilter.AnonymousShared)]
    [InlineData("/dev/shm/ring", "rd wr sh mr mw me ms", CoreFilter.MappedShared)]
    [InlineData("/dev/hugepages/x", "rd wr sh mr mw me ms de ht", CoreFilter.HugeTlbShared)]
    [InlineData("/pmem/x", "rd wr sh mr mw me sf", CoreFilter.DaxShared)]
    public void Shared_memory_is_taken_by_its_kind(string name, string codes, CoreFilter kind)
    {
        SnapshotArea area = Area(name, codes);
        foreach (CoreFilter other in Enum.GetValues<CoreFilter>())
        {
            Assert.Equal((other, (other & kind) != 0), (other, area.IsTakenShared(new SnapshotOptions { SharedKinds = other })));
            var source = new FakeCoreSource();
            source.Map(At, 4, "rw-s", name, 7, codes);
            source.Fill(At, 4);
            Assert.Equal((other, CoreSegment.Choose(source, other, false).Segments[0].FileBytes != 0), (other, area.IsTakenShared(new SnapshotOptions { SharedKinds = other })));
        }
        Assert.True(area.IsTakenShared(new SnapshotOptions()));
        Assert.False(area.IsTakenShared(new SnapshotOptions { SharedMemory = false }));
    }

    [Fact]
    public void What_the_process_excludes_from_cores_is_taken_unless_it_is_for_one()
    {
        SnapshotArea area = Area("/dev/zero (deleted)", "rd wr sh mr mw me ms dd");
        Assert.True(area.IsTakenShared(new SnapshotOptions()));
        Assert.False(area.IsTakenShared(new SnapshotOptions { SharedDontDump = false }));
    }

    [Fact]
    public void The_figures_of_smaps_go_with_the_mapping()
    {
        Vma low = Area("", "").Vma with { Range = new PageRange(At, At + 2 * Page), Shared = false, Inode = 0 }, high = low with { Range = new PageRange(At + 2 * Page, At + 4 * Page) };
        SmapsEntry[] entries =
        [
            new() { Vma = low, Flags = VmFlags.Read, Rss = Page, Pss = 1024, PrivateDirty = Page, Swap = Page, SwapPss = 512, KernelPageSize = Page },
            new() { Vma = high, Flags = VmFlags.Read | VmFlags.Write, Rss = 2 * Page, Pss = 1024, Locked = Page, AnonHugePages = Page, KernelPageSize = Page, ProtectionKey = 3 },
        ];
        Vma joined = low with { Range = new PageRange(At, At + 4 * Page) }, later = low with { Range = new PageRange(At + 8 * Page, At + 9 * Page) };
        List<SnapshotArea> areas = SnapshotArea.Join([joined, later], entries);
        SnapshotRange range = areas[0].Describe(new PageRange(At, At + Page), copied: false, null);
        Assert.Equal("rd wr", range.Flags);
        Assert.Equal(
            new SnapshotUsage
            {
                Rss = 3 * Page, Pss = 2048, PrivateDirty = Page, Swap = Page, SwapPss = 512, Locked = Page, AnonHugePages = Page, KernelPageSize = Page, ProtectionKey = 3,
            },
            range.Usage);
        Assert.Null(areas[1].Describe(later.Range, copied: false, null).Usage);
    }

    private static SnapshotArea Area(string name, string codes) => new(
        new Vma { Range = new PageRange(At, At + 4 * Page), Protection = Protection.Read | Protection.Write, Shared = true, Inode = 7, Name = name },
        VmFlagsCodes.Parse(System.Text.Encoding.ASCII.GetBytes(codes)), codes);
}
