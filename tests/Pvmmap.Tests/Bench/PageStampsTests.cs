using Pvmmap.Bench;
using Pvmmap.Cli.Demo;
using Xunit;

namespace Pvmmap.Tests.Bench;

public sealed class PageStampsTests
{
    [Fact]
    public void A_wrong_byte_anywhere_is_seen()
    {
        using AnonymousMemory memory = AnonymousMemory.MapSmall(64 * PageRange.PageSize);
        Assert.Equal(64UL, PageStamps.CountWrong(memory, 1));
        PageStamps.Write(memory, 1);
        Assert.Equal((0UL, 64UL), (PageStamps.CountWrong(memory, 1), PageStamps.CountWrong(memory, 2)));
        memory.Slice(5 * PageRange.PageSize)[4095] ^= 1;
        memory.Slice(63 * PageRange.PageSize)[7] ^= 0x80;
        Assert.Equal(2UL, PageStamps.CountWrong(memory, 1));
    }
}
