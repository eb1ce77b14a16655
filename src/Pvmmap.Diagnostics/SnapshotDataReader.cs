using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.Diagnostics.Runtime;
using Microsoft.Diagnostics.Runtime.DataReaders.Implementation;
using Pvmmap.Snapshots;

namespace Pvmmap.Diagnostics;

/// <summary>What ClrMD reads a process through: memory, modules and threads of a snapshot. The snapshot stays its owner's.</summary>
internal sealed class SnapshotDataReader : IDataReader, IThreadReader, IMemoryRegionReader
{
    private readonly ProcessSnapshot _snapshot;
    private readonly SnapshotBlocks _blocks;
    private readonly Dictionary<uint, SnapshotThread> _threads;
    private readonly Lazy<ModuleInfo[]> _modules;
    private volatile PvmmapException? _failure;

    public SnapshotDataReader(ProcessSnapshot snapshot)
    {
        _snapshot = snapshot;
        _blocks = new SnapshotBlocks(snapshot);
        _threads = snapshot.Threads.ToDictionary(thread => (uint)thread.NamespaceThreadId);
        _modules = new(() => [.. SnapshotModules.Find(this, snapshot.Ranges)]);
    }

    public string DisplayName => $"snapshot of process {ProcessId}";

    public bool IsThreadSafe => true;

    public OSPlatform TargetPlatform => OSPlatform.Linux;

    public Architecture Architecture => RuntimeInformation.ProcessArchitecture;

    public int ProcessId => _snapshot.Identity.ProcessId;

    public int PointerSize => 8;

    /// <summary>
    /// Why memory could not be read any more, if that has come to pass. It is kept, not thrown: most reads come from the runtime's own library, which no
    /// exception may cross.
    /// </summary>
    public PvmmapException? Failure => _failure;

    public int Read(ulong address, Span<byte> buffer)
    {
        try
        {
            return _blocks.Read(address, buffer);
        }
        catch (PvmmapException e)
        {
            _failure ??= e;
            return 0;
        }
    }

    public bool Read<T>(ulong address, out T value)
        where T : unmanaged
    {
        Unsafe.SkipInit(out value);
        if (Read(address, MemoryMarshal.AsBytes(new Span<T>(ref value))) == Unsafe.SizeOf<T>()) return true;
        value = default;
        return false;
    }

    public T Read<T>(ulong address)
        where T : unmanaged => Read(address, out T value) ? value : default;

    public bool ReadPointer(ulong address, out ulong value) => Read(address, out value);

    public ulong ReadPointer(ulong address) => Read<ulong>(address);

    public IEnumerable<ModuleInfo> EnumerateModules() => _modules.Value;

    public IEnumerable<uint> EnumerateOSThreadIds() => _threads.Keys;

    /// <summary>There are none on Linux.</summary>
    public ulong GetThreadTeb(uint osThreadId) => 0;

    public bool GetThreadContext(uint threadID, uint contextFlags, Span<byte> context) =>
        _threads.TryGetValue(threadID, out SnapshotThread? thread) && ThreadContext.TryWrite(thread, contextFlags, context);

    /// <summary>A snapshot does not change.</summary>
    public void FlushCachedData()
    {
    }

    public IEnumerable<MemoryRegion> EnumerateMemoryRegions() => _snapshot.Ranges.Select(range => new MemoryRegion
    {
        BaseAddress = range.Range.Start,
        Size = range.Range.Length,
        AllocationBase = range.Range.Start,
        State = range.Content == SnapshotContent.Absent ? MemoryRegionState.Reserve : MemoryRegionState.Commit,
        Type = !range.IsFileBacked ? MemoryRegionType.Private : range.IsExecutable ? MemoryRegionType.Image : MemoryRegionType.Mapped,
        Protect = Protection(range),
        AllocationProtect = Protection(range),
    });

    private static MemoryRegionProtect Protection(SnapshotRange range)
    {
        MemoryRegionProtect protection = (range.IsReadable ? MemoryRegionProtect.Read : 0) | (range.IsWritable ? MemoryRegionProtect.Write : 0)
            | (range.IsExecutable ? MemoryRegionProtect.Execute : 0);
        return protection == 0 ? MemoryRegionProtect.NoAccess : protection;
    }
}
