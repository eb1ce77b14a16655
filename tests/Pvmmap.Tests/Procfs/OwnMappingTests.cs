using System.Text;
using Pvmmap.Linux;
using Pvmmap.Procfs;
using Xunit;

namespace Pvmmap.Tests.Procfs;

/// <summary>What the running kernel shows of a mapping that the test has made itself.</summary>
public unsafe class OwnMappingTests
{
    private const ulong Length = 16 * PageRange.PageSize;

    [Fact]
    public void Asked_one_by_one_the_mappings_are_those_that_are_printed()
    {
        int self = Environment.ProcessId;
        using Mapping first = new(Memory.MAP_PRIVATE), second = new(Memory.MAP_SHARED);
        List<Vma> printed = Maps.Read(self);
        Assert.Equal(printed[0].Range.Start, Maps.Lowest(self));
        // The runtime maps and unmaps code meanwhile: only what stays is looked at.
        foreach (Vma vma in printed.Where(vma => vma.Path.EndsWith(".so", StringComparison.Ordinal) || vma.IsSpecial || vma.Range.Overlaps(first.Range) || vma.Range.Overlaps(second.Range)))
        {
            // Beyond the end of user addresses (vsyscall) there is nothing to ask for.
            if (vma.Range.Start >= Processor.AddressSpaceEnd) continue;
            Assert.Equal([vma], Maps.Read(self, vma.Range));
        }
    }

    [Theory]
    [InlineData(0, Memory.MADV_DONTFORK, VmFlags.DontCopy)]
    [InlineData(0, Memory.MADV_WIPEONFORK, VmFlags.WipeOnFork)]
    [InlineData(0, Memory.MADV_HUGEPAGE, VmFlags.HugePage)]
    [InlineData(0, Memory.MADV_NOHUGEPAGE, VmFlags.NoHugePage)]
    [InlineData(0, Memory.MADV_DONTDUMP, VmFlags.DontDump)]
    [InlineData(0, Memory.MADV_MERGEABLE, VmFlags.Mergeable)]
    [InlineData(Memory.MAP_NORESERVE, 0, VmFlags.NoReserve)]
    [InlineData(Memory.MAP_GROWSDOWN, 0, VmFlags.GrowsDown)]
    internal void A_flag_is_shown_when_it_is_set_and_only_then(int mapFlags, int advice, VmFlags expected)
    {
        using var mapping = new Mapping(mapFlags | Memory.MAP_PRIVATE);
        if (advice != 0)
        {
            Assert.False(mapping.Entry.Flags.HasFlag(expected));
            SyscallResult advised = SystemCall.Invoke(SystemCall.SYS_madvise, (long)mapping.Range.Start, (long)Length, advice);
            if (advised.Errno == Errno.EINVAL) Assert.Skip($"the kernel is built without what {expected} stands for");
            Assert.False(advised.Failed);
        }
        Assert.True(mapping.Entry.Flags.HasFlag(expected), $"{mapping.Entry.Flags}");
        Assert.False(mapping.Entry.Flags.HasFlag(VmFlags.Unknown));
    }

    [Fact]
    public void Touched_pages_are_resident_anonymous_and_in_the_pagemap()
    {
        using var mapping = new Mapping(Memory.MAP_PRIVATE);
        SystemCall.Invoke(SystemCall.SYS_madvise, (long)mapping.Range.Start, (long)Length, Memory.MADV_NOHUGEPAGE);
        int[] touched = [0, 3, 15];
        foreach (int page in touched) *(byte*)(mapping.Range.Start + ((ulong)page * PageRange.PageSize)) = 1;

        SmapsEntry entry = mapping.Entry;
        Assert.Equal(3 * PageRange.PageSize, entry.Anonymous + entry.Swap);
        Assert.Equal(entry.Rss, entry.Anonymous);
        Assert.Equal(PageRange.PageSize, entry.KernelPageSize);
        List<PagemapEntry> pages = Pagemap.Read(Environment.ProcessId, mapping.Range);
        Assert.Equal(touched, Enumerable.Range(0, pages.Count).Where(i => pages[i].Present || pages[i].Swapped));
        Assert.All(touched, page => Assert.True(pages[page].Swapped || (pages[page].ExclusivelyMapped && !pages[page].FileOrShared)));
    }

    [Fact]
    public void Shared_anonymous_memory_is_a_deleted_file()
    {
        using var mapping = new Mapping(Memory.MAP_SHARED);
        Vma vma = mapping.Entry.Vma;
        Assert.True(vma.Shared && vma.IsFileBacked && vma.IsDeleted);
        Assert.Equal("/dev/zero", vma.Path);
    }

    [Fact]
    public void A_memfd_is_a_deleted_file_of_its_name()
    {
        using FileDescriptor memfd = Memfd.Create("odd name", (long)Length);
        using var mapping = new Mapping(Memory.MAP_PRIVATE, memfd.Number, (long)PageRange.PageSize);
        Vma vma = mapping.Entry.Vma;
        Assert.Equal(("/memfd:odd name", PageRange.PageSize), (vma.Path, vma.Offset));
        Assert.True(vma.IsDeleted && !vma.Shared);
    }

    [Theory]
    [InlineData(Memory.MAP_PRIVATE)]
    [InlineData(Memory.MAP_SHARED)]
    public void The_name_of_anonymous_memory_is_shown(int flags)
    {
        using var mapping = new Mapping(flags);
        SyscallResult named;
        fixed (byte* name = Encoding.ASCII.GetBytes("a (b) c\0"))
        {
            const int operation = Prctl.PR_SET_VMA, what = Prctl.PR_SET_VMA_ANON_NAME;
            named = SystemCall.Invoke(SystemCall.SYS_prctl, operation, what, (long)mapping.Range.Start, (long)Length, (long)name);
        }
        if (named.Errno is Errno.EINVAL or Errno.EBADF)
            Assert.Skip("the kernel names no such memory (needs CONFIG_ANON_VMA_NAME; shared memory since Linux 6.2)");
        Assert.Equal("a (b) c", mapping.Entry.Vma.AnonymousName);
        Assert.Equal("a (b) c", Assert.Single(Maps.Read(Environment.ProcessId), vma => vma.Range == mapping.Range).AnonymousName);
    }

    [Fact]
    public void A_range_under_a_userfaultfd_shows_it()
    {
        SyscallResult opened = SystemCall.Invoke(SystemCall.SYS_userfaultfd, Userfaultfd.O_CLOEXEC | Userfaultfd.UFFD_USER_MODE_ONLY);
        if (opened.Failed) Assert.Skip($"needs userfaultfd(2): {opened.Errno}");
        using var uffd = new FileDescriptor(opened.Value);
        using var mapping = new Mapping(Memory.MAP_PRIVATE);
        Assert.Equal(Errno.None, Userfaultfd.Enable(uffd, 0, out _));
        Assert.Equal(Errno.None, Userfaultfd.RegisterMissing(uffd, mapping.Range));
        Assert.True(mapping.Entry.Flags.HasFlag(VmFlags.UffdMissing));
    }

    /// <summary>A few pages between two inaccessible ones, so that the kernel merges them with no neighbour.</summary>
    private sealed class Mapping : IDisposable
    {
        private readonly PageRange _guarded;

        public Mapping(int flags, int fd = -1, long offset = 0)
        {
            SyscallResult room = Memory.Map(0, Length + (2 * PageRange.PageSize), Memory.PROT_NONE, Memory.MAP_PRIVATE | Memory.MAP_ANONYMOUS);
            ulong start = (ulong)room.OrThrow("reserve");
            _guarded = new PageRange(start, start + Length + (2 * PageRange.PageSize));
            Range = new PageRange(start + PageRange.PageSize, start + PageRange.PageSize + Length);
            int anonymous = fd < 0 ? Memory.MAP_ANONYMOUS : 0;
            Memory.Map(Range.Start, Length, Memory.PROT_READ | Memory.PROT_WRITE, flags | anonymous | Memory.MAP_FIXED, fd, offset).OrThrow("map");
        }

        public PageRange Range { get; }

        public SmapsEntry Entry
        {
            get
            {
                SmapsEntry entry = Assert.Single(Smaps.Read(Environment.ProcessId, Range));
                Assert.Equal(Range, entry.Vma.Range);
                return entry;
            }
        }

        public void Dispose() => Memory.Unmap(_guarded.Start, _guarded.Length);
    }
}
