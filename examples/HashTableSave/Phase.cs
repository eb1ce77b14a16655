namespace HashTableSave;

/// <summary>What goes on while the writers write.</summary>
internal enum Phase
{
    /// <summary>Nothing else.</summary>
    Quiet,

    /// <summary>A save, the way it should be: from a snapshot.</summary>
    Snapshot,

    /// <summary>A save with the lock held from beginning to end.</summary>
    Locked,

    /// <summary>A save of memory that is being changed.</summary>
    Torn,

    /// <summary>What is not measured: a saved table is being examined.</summary>
    Examination,
}
