namespace Pvmmap.Snapshots;

/// <summary>
/// A process as it was at one instant: memory, registers, maps. The process stands still for the time a fork takes and goes on; the snapshot is read at
/// leisure. Its memory is kept by a process of its own, the keeper (named pvmmap-snapshot), for as long as this object lives, or longer after <see cref="Detach"/>.
/// </summary>
public sealed class ProcessSnapshot : IDisposable
{
    /// <summary>The process id and so on of what was captured.</summary>
    public SnapshotIdentity Identity => throw new NotImplementedException();

    /// <summary>The process that keeps the memory.</summary>
    public int KeeperPid => throw new NotImplementedException();

    /// <summary>The instant.</summary>
    public DateTimeOffset TakenAt => throw new NotImplementedException();

    /// <summary>For how long the process stood still.</summary>
    public TimeSpan StopTime => throw new NotImplementedException();

    /// <summary>/proc/PID/auxv.</summary>
    public ReadOnlyMemory<byte> AuxiliaryVector => throw new NotImplementedException();

    /// <summary>The mappings, in the order of their addresses.</summary>
    public IReadOnlyList<SnapshotRange> Ranges => throw new NotImplementedException();

    /// <summary>The threads; the first is the thread group's leader if it was alive. Empty in a snapshot of the own process.</summary>
    public IReadOnlyList<SnapshotThread> Threads => throw new NotImplementedException();

    /// <summary>Open descriptors, by number.</summary>
    public IReadOnlyList<SnapshotDescriptor> Descriptors => throw new NotImplementedException();

    /// <summary>What a missing capability changed, one sentence each.</summary>
    public IReadOnlyList<string> Notes => throw new NotImplementedException();

    /// <summary>Takes a snapshot of a process.</summary>
    public static ProcessSnapshot Capture(int pid, SnapshotOptions? options = null) => throw new NotImplementedException();

    /// <summary>Takes ranges of this process's own memory, while its threads go on.</summary>
    public static ProcessSnapshot CaptureSelf(IReadOnlyList<PageRange> ranges) => throw new NotImplementedException();

    /// <summary>Opens a snapshot that was detached, by its keeper.</summary>
    public static ProcessSnapshot Open(int keeperPid) => throw new NotImplementedException();

    /// <summary>Reads memory: all of it, or EFAULT with the first address that cannot be read; EAGAIN if the keeper was killed. Any thread may.</summary>
    public void Read(ulong address, Span<byte> destination) => throw new NotImplementedException();

    /// <summary>Reads what can be read from the address on: bytes, 0 if nothing is there.</summary>
    public int ReadSome(ulong address, Span<byte> destination) => throw new NotImplementedException();

    /// <summary>A stream over a range.</summary>
    public Stream OpenRead(ulong address, ulong length) => throw new NotImplementedException();

    /// <summary>The parts of a range that have content of their own: all others read as zeros in anonymous memory, as the file's content in files. Ascending, not adjacent.</summary>
    public IEnumerable<PageRange> Populated(PageRange range) => throw new NotImplementedException();

    /// <summary>Has the snapshot outlive this object and this process, until <see cref="Release"/> or the keeper's end.</summary>
    public void Detach() => throw new NotImplementedException();

    /// <summary>Ends a detached snapshot.</summary>
    public void Release() => throw new NotImplementedException();

    /// <inheritdoc/>
    public void Dispose() => throw new NotImplementedException();
}
