namespace Pvmmap.Snapshots;

/// <summary>A snapshot that some process keeps on this machine.</summary>
/// <param name="KeeperPid">The process that keeps the memory.</param>
/// <param name="ProcessId">What was captured. It may have ended since.</param>
/// <param name="Name">The captured program's short name.</param>
/// <param name="OwnerPid">The process that the snapshot goes with, in its own pid namespace; 0 if it was detached.</param>
/// <param name="TakenAt">When.</param>
/// <param name="OwnBytes">Bytes of memory that only the snapshot has: what its end would free.</param>
/// <param name="Bytes">Bytes that it has resident or swapped, those included that it shares with the process.</param>
public sealed record SnapshotListing(int KeeperPid, int ProcessId, string Name, int OwnerPid, DateTimeOffset TakenAt, ulong OwnBytes, ulong Bytes);
