namespace HashTableSave;

/// <summary>One save.</summary>
/// <param name="Paused">For how long the lock was held.</param>
/// <param name="Time">Until the file was on disk under its name.</param>
/// <param name="OwnBytes">Memory that only the snapshot had when the file was written: what the writers had changed by then.</param>
internal sealed record Save(TimeSpan Paused, TimeSpan Time, ulong OwnBytes)
{
    /// <summary>What the file holds.</summary>
    public Verdict Verdict { get; init; } = null!;
}
