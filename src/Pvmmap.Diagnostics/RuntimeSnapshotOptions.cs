using Pvmmap.Snapshots;

namespace Pvmmap.Diagnostics;

/// <summary>How <see cref="RuntimeSnapshot.Capture"/> goes about it.</summary>
public sealed record RuntimeSnapshotOptions
{
    /// <summary>
    /// Take snapshots until one has a heap that can be walked from end to end. The instant of a snapshot is any instant: the runtime may be in the middle of a
    /// garbage collection, or a thread between the two steps of making an object. Each is walked once to find out, at about the pace of listing all objects.
    /// </summary>
    public bool WaitForWalkableHeap { get; init; }

    /// <summary>For how long to go on taking snapshots; 30 seconds if not set. At least one is taken.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>The data access library, if not the one beside the process's libcoreclr.so: see <see cref="SnapshotDataTarget.CreateRuntime"/>.</summary>
    public string? DacPath { get; init; }

    /// <summary>What the snapshots take; all if null. The heap, the stacks and the runtime's own memory are needed.</summary>
    public SnapshotOptions? Snapshot { get; init; }
}
