namespace Pvmmap.Snapshots;

/// <summary>An open file descriptor of the process at the instant of the snapshot.</summary>
/// <param name="Number">Its number.</param>
/// <param name="Target">What it refers to, as /proc/PID/fd shows it: a path, "socket:[123]", "anon_inode:[eventpoll]".</param>
public sealed record SnapshotDescriptor(int Number, string Target);
