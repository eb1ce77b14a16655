using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>Every byte of the destination reads as the source had it at the cut.</summary>
public sealed class ContentTests(Theatre theatre) : Scene(theatre)
{
    [Theory]
    [MemberData(nameof(Ways))]
    public void Every_byte_of_64_MiB_arrives(Way way)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong at = MapFilled(source, 64 * MiB, 1);
        MmapResult result = Call(source, target, at, 64 * MiB);
        target.AssertContent(result.Address, 64 * MiB, 1);
        AssertCompletes(result);
        target.AssertContent(result.Address, 64 * MiB, 1);
        source.AssertContent(at, 64 * MiB, 1);
    }
}
