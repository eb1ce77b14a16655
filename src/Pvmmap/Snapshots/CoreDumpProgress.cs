namespace Pvmmap.Snapshots;

/// <summary>How far a core dump has got: bytes of memory, holes not counted.</summary>
/// <param name="BytesDone">Written.</param>
/// <param name="BytesTotal">To be written, all in all.</param>
public readonly record struct CoreDumpProgress(ulong BytesDone, ulong BytesTotal);
