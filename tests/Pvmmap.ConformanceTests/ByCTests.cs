using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

// The tests of the classes below once more, through the C function: what the system call of a kernel that has it is held against, test by test
// (kernel/suite). There the caller is source or target: no third parties.

[Trait(CFunctionWays.Trait, CFunctionWays.Value)]
public sealed class ContentByCTests(Theatre theatre) : ContentTests(theatre)
{
    public static new TheoryData<Way> Ways => [Way.Pull, Way.Push];

    public static new TheoryData<Way, MmapFlags> WaysAndFills => CFunctionWays.With(MmapFlags.None, MmapFlags.Lazy, MmapFlags.Populate);

    protected override Through Through => Through.CFunction;
}

[Trait(CFunctionWays.Trait, CFunctionWays.Value)]
public sealed class PlacementByCTests(Theatre theatre) : PlacementTests(theatre)
{
    public static new TheoryData<Way> Ways => [Way.Pull, Way.Push];

    public static new TheoryData<Way, MmapFlags> WaysAndFills => CFunctionWays.With(MmapFlags.None, MmapFlags.Lazy, MmapFlags.Populate);

    protected override Through Through => Through.CFunction;
}

[Trait(CFunctionWays.Trait, CFunctionWays.Value)]
public sealed class IsolationByCTests(Theatre theatre) : IsolationTests(theatre)
{
    public static new TheoryData<Way> Ways => [Way.Pull, Way.Push];

    public static new TheoryData<Way, MmapFlags> WaysAndFills => CFunctionWays.With(MmapFlags.None, MmapFlags.Lazy, MmapFlags.Populate);

    protected override Through Through => Through.CFunction;
}

[Trait(CFunctionWays.Trait, CFunctionWays.Value)]
public sealed class KindByCTests(Theatre theatre) : KindTests(theatre)
{
    protected override Through Through => Through.CFunction;
}

[Trait(CFunctionWays.Trait, CFunctionWays.Value)]
public sealed class SeveralVmasByCTests(Theatre theatre) : SeveralVmasTests(theatre)
{
    public static new TheoryData<Way, MmapFlags> WaysAndFills => CFunctionWays.With(MmapFlags.None, MmapFlags.Lazy, MmapFlags.Populate);

    protected override Through Through => Through.CFunction;
}

[Trait(CFunctionWays.Trait, CFunctionWays.Value)]
public sealed class HoleByCTests(Theatre theatre) : HoleTests(theatre)
{
    public static new TheoryData<Way> Ways => [Way.Pull, Way.Push];

    public static new TheoryData<Way, ulong> WaysAndSteps => CFunctionWays.With<ulong>(2, 1000);

    protected override Through Through => Through.CFunction;
}

[Trait(CFunctionWays.Trait, CFunctionWays.Value)]
public sealed class ChainByCTests(Theatre theatre) : ChainTests(theatre)
{
    protected override Through Through => Through.CFunction;
}

[Trait(CFunctionWays.Trait, CFunctionWays.Value)]
public sealed class MoveByCTests(Theatre theatre) : MoveTests(theatre)
{
    public static new TheoryData<Way> Ways => [Way.Pull, Way.Push];

    public static new TheoryData<Way, MmapFlags> WaysAndFlags => CFunctionWays.With(
        MmapFlags.None, MmapFlags.Lazy, MmapFlags.Populate, MmapFlags.Fixed, MmapFlags.Fixed | MmapFlags.Populate, MmapFlags.FixedNoReplace);

    protected override Through Through => Through.CFunction;
}

[Trait(CFunctionWays.Trait, CFunctionWays.Value)]
public sealed class FillEventByCTests(Theatre theatre) : FillEventTests(theatre)
{
    protected override Through Through => Through.CFunction;
}

/// <summary>What the classes above have in common.</summary>
internal static class CFunctionWays
{
    public const string Trait = "Through", Value = "CFunction";

    public static TheoryData<Way, T> With<T>(params T[] others) => new MatrixTheoryData<Way, T>([Way.Pull, Way.Push], others);
}
