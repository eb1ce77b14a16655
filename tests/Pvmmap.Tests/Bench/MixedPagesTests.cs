using Pvmmap.Bench;
using Pvmmap.Cli.Demo;
using Xunit;

namespace Pvmmap.Tests.Bench;

public sealed class MixedPagesTests
{
    [Fact]
    public void A_wrong_byte_anywhere_is_seen()
    {
        using AnonymousMemory memory = AnonymousMemory.MapSmall(64 * PageRange.PageSize);
        MixedPages.Write(memory, 1);
        Assert.Equal((0UL, 64UL), (MixedPages.CountWrong(memory, 1), MixedPages.CountWrong(memory, 2)));
        memory.Slice(5 * PageRange.PageSize)[4095] ^= 1;
        memory.Slice(63 * PageRange.PageSize)[7] ^= 0x80;
        Assert.Equal(2UL, MixedPages.CountWrong(memory, 1));
    }

    [Fact]
    public void Written_in_pieces_it_is_the_same()
    {
        using AnonymousMemory memory = AnonymousMemory.MapSmall(64 * PageRange.PageSize);
        for (ulong page = 0; page < 64; page += 16) MixedPages.Write(memory.Slice(page * PageRange.PageSize)[..(int)(16 * PageRange.PageSize)], 3, page);
        Assert.Equal(0UL, MixedPages.CountWrong(memory, 3));
    }
}
