using Pvmmap.Holder;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>What a <see cref="SteppedCaller"/> is to call, and where it is to stop.</summary>
/// <param name="Source">Process number; 0 is the caller itself, and so is a target of 0.</param>
/// <param name="Target">Process number.</param>
/// <param name="Address">Where the source range begins.</param>
/// <param name="Pages">Its length in pages.</param>
/// <param name="Step">A step of the call, or of a capture; several with commas.</param>
internal sealed record SteppedCall(int Source, int Target, ulong Address, ulong Pages, string Step)
{
    /// <summary>Mappings that the caller's own source range consists of.</summary>
    public ulong Pieces { get; init; } = 1;

    /// <summary>Where the range is to come to lie; 0 is anywhere.</summary>
    public ulong Destination { get; init; }

    public MmapFlags Flags { get; init; }

    public FillStep FillStep { get; init; }

    /// <summary>The command line of programs/StepCaller.</summary>
    public string[] Arguments(string door) =>
        [door, $"{Source}", $"{Target}", $"0x{Address:x}", $"{Pages}", $"{Pieces}", $"0x{Destination:x}", $"0x{(ulong)Flags:x}", Step, $"{FillStep}"];
}
