namespace Pvmmap.Snapshots;

/// <summary>What a core dump is made from: the part of <see cref="ProcessSnapshot"/> that it needs, and in tests anything else.</summary>
internal interface ICoreSource
{
    SnapshotIdentity Identity { get; }

    ReadOnlyMemory<byte> AuxiliaryVector { get; }

    IReadOnlyList<SnapshotRange> Ranges { get; }

    IReadOnlyList<SnapshotThread> Threads { get; }

    /// <summary>Pages that could not be read when the snapshot was taken.</summary>
    IReadOnlyList<PageRange> Unreadable { get; }

    /// <summary>As <see cref="ProcessSnapshot.Read"/>.</summary>
    void Read(ulong address, Span<byte> destination);

    /// <summary>As <see cref="ProcessSnapshot.ReadSome"/>.</summary>
    int ReadSome(ulong address, Span<byte> destination);

    /// <summary>As <see cref="ProcessSnapshot.Populated"/>.</summary>
    IEnumerable<PageRange> Populated(PageRange range);
}

/// <summary>A snapshot as the source of a core dump.</summary>
internal sealed class SnapshotCoreSource(ProcessSnapshot snapshot) : ICoreSource
{
    public SnapshotIdentity Identity => snapshot.Identity;

    public ReadOnlyMemory<byte> AuxiliaryVector => snapshot.AuxiliaryVector;

    public IReadOnlyList<SnapshotRange> Ranges => snapshot.Ranges;

    public IReadOnlyList<SnapshotThread> Threads => snapshot.Threads;

    public IReadOnlyList<PageRange> Unreadable => snapshot.Unreadable;

    public void Read(ulong address, Span<byte> destination) => snapshot.Read(address, destination);

    public int ReadSome(ulong address, Span<byte> destination) => snapshot.ReadSome(address, destination);

    public IEnumerable<PageRange> Populated(PageRange range) => snapshot.Populated(range);
}
