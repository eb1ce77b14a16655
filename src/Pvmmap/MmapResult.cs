namespace Pvmmap;

/// <summary>What a call to <see cref="ProcessVm.Mmap"/> did.</summary>
public sealed record MmapResult
{
    /// <summary>Page-aligned destination address, in the target: the return value of the C function.</summary>
    public required ulong Address { get; init; }

    /// <summary>Address in the target of the byte that the source address named: <see cref="Address"/> plus its offset in the page.</summary>
    public required ulong DataAddress { get; init; }

    /// <summary>Bytes mapped at <see cref="Address"/>: the length rounded outward to whole pages.</summary>
    public required ulong Length { get; init; }

    /// <summary>Who made the call: this library, or the kernel where it has the call.</summary>
    public required Backend Backend { get; init; }

    /// <summary>Follows the fill that goes on behind the call. Of the kernel's call nothing is left to be filled: it is complete at once.</summary>
    public required Duplication Duplication { get; init; }

    /// <summary>Wall time of the whole call.</summary>
    public required TimeSpan CallTime { get; init; }

    /// <summary>Time for which the source's threads stood still; zero when the source is the caller, or the kernel made the call.</summary>
    public required TimeSpan SourceStopTime { get; init; }

    /// <summary>Time for which the target's thread stood still; zero when the target is the caller, or the kernel made the call.</summary>
    public required TimeSpan TargetStopTime { get; init; }

    /// <summary>What a missing capability changed, or why the kernel that has the call did not make it; one sentence each, empty in the usual case.</summary>
    public IReadOnlyList<string> Notes { get; init; } = [];
}
