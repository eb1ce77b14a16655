using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Pvmmap.Procfs;
using Xunit;

namespace Pvmmap.Tests.Procfs;

public unsafe class PagemapTests
{
    [Fact]
    public void Each_bit_has_its_meaning()
    {
        Assert.True(new PagemapEntry(1UL << 63).Present);
        Assert.True(new PagemapEntry(1UL << 62).Swapped);
        Assert.True(new PagemapEntry(1UL << 61).FileOrShared);
        Assert.True(new PagemapEntry(1UL << 57).UffdWp);
        Assert.True(new PagemapEntry(1UL << 56).ExclusivelyMapped);
        Assert.True(new PagemapEntry(1UL << 55).SoftDirty);
        var none = new PagemapEntry((1UL << 55) - 1);
        Assert.False(none.Present || none.Swapped || none.FileOrShared || none.UffdWp || none.ExclusivelyMapped || none.SoftDirty);
        Assert.Equal(0ul, none.Pfn);
        Assert.Equal((1UL << 55) - 1, new PagemapEntry(ulong.MaxValue).Pfn);
    }

    [Fact]
    public void Entries_are_little_endian_words()
    {
        byte[] bytes = new byte[16];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(8), 1UL << 63 | 42);
        Assert.Equal([new PagemapEntry(0), new PagemapEntry(1UL << 63 | 42)], Pagemap.Parse(bytes));
        Assert.Throws<FormatException>(() => Pagemap.Parse(bytes.AsSpan(1).ToArray()));
    }

    [Fact]
    public void A_touched_page_is_present()
    {
        const int pages = 16;
        byte* memory = (byte*)NativeMemory.AlignedAlloc(pages * 4096, 4096);
        try
        {
            var range = new PageRange((ulong)memory, (ulong)memory + (pages * 4096));
            for (int i = 0; i < pages; i++) memory[i * 4096] = 1;
            Assert.All(Pagemap.Read(Environment.ProcessId, range), entry => Assert.True(entry.Present || entry.Swapped));
            Assert.Equal(pages, Pagemap.Read(Environment.ProcessId, range).Count);
        }
        finally
        {
            NativeMemory.AlignedFree(memory);
        }
    }

    [Fact]
    public void Behind_the_end_of_the_address_space_there_are_no_entries() =>
        Assert.Empty(Pagemap.Read(Environment.ProcessId, new PageRange(1UL << 57, (1UL << 57) + 4096)));
}
