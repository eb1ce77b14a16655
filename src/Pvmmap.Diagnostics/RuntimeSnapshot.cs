using System.Diagnostics;
using Microsoft.Diagnostics.Runtime;
using Pvmmap.Snapshots;

namespace Pvmmap.Diagnostics;

/// <summary>A .NET process as it was at one instant: its memory, and the runtime in it.</summary>
public sealed class RuntimeSnapshot : IDisposable
{
    private static readonly TimeSpan s_firstPause = TimeSpan.FromMilliseconds(5), s_longestPause = TimeSpan.FromMilliseconds(250);

    private RuntimeSnapshot(ProcessSnapshot snapshot, ClrRuntime runtime) => (Snapshot, Runtime) = (snapshot, runtime);

    /// <summary>The process.</summary>
    public ProcessSnapshot Snapshot { get; }

    /// <summary>Its runtime: heap, threads, modules.</summary>
    public ClrRuntime Runtime { get; }

    /// <summary>How many snapshots it took, this one included.</summary>
    public int Attempts { get; private init; } = 1;

    /// <summary>For how long the process stood still, in all attempts together; <see cref="ProcessSnapshot.StopTime"/> is that of the last.</summary>
    public TimeSpan StopTime { get; private init; }

    /// <summary>Takes a snapshot of a .NET process, or several until one is as the options want it.</summary>
    /// <exception cref="PvmmapException">
    /// What <see cref="ProcessSnapshot.Capture"/> and <see cref="SnapshotDataTarget.CreateRuntime"/> say; ETIMEDOUT: no heap could be walked in time, with what was seen last.
    /// </exception>
    public static RuntimeSnapshot Capture(int pid, RuntimeSnapshotOptions? options = null)
    {
        options ??= new RuntimeSnapshotOptions();
        long start = Stopwatch.GetTimestamp();
        TimeSpan stopped = TimeSpan.Zero, pause = s_firstPause;
        for (int attempt = 1; ; attempt++)
        {
            RuntimeSnapshot taken = Open(ProcessSnapshot.Capture(pid, options.Snapshot), options.DacPath, attempt, stopped);
            string? fault;
            try
            {
                fault = options.WaitForWalkableHeap ? HeapWalk.FindFault(taken.Runtime.Heap) : null;
                taken.ThrowIfLost();
            }
            catch
            {
                taken.Dispose();
                throw;
            }

            if (fault is null) return taken;
            stopped = taken.StopTime;
            taken.Dispose();
            if (Stopwatch.GetElapsedTime(start) + pause > options.Timeout)
            {
                throw new PvmmapException(Errno.ETIMEDOUT, "take a snapshot with a heap that can be walked", pid,
                    hint: $"not one of {attempt} had it; in the last {fault}; try again later, or for longer");
            }

            // a collection takes its time: each look at it costs the process a stop
            Thread.Sleep(pause);
            pause = pause * 2 < s_longestPause ? pause * 2 : s_longestPause;
        }
    }

    /// <summary>The runtime in a snapshot that has been taken; the snapshot is disposed of with it.</summary>
    /// <exception cref="PvmmapException">As of <see cref="SnapshotDataTarget.CreateRuntime"/>; the snapshot has been disposed of then too.</exception>
    public static RuntimeSnapshot Open(ProcessSnapshot snapshot, string? dacPath = null)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        return Open(snapshot, dacPath, 1, TimeSpan.Zero);
    }

    /// <summary>How many objects of each type the heap has, free ones included, by size: what <c>dumpheap -stat</c> lists.</summary>
    /// <exception cref="PvmmapException">EAGAIN: the heap cannot be walked. Any: the snapshot's memory could not be read.</exception>
    public HeapStatistics CountHeap(Func<ClrObject, bool>? filter = null)
    {
        HeapStatistics statistics = HeapStatistics.Of(Runtime.Heap, filter, out string? fault);
        ThrowIfLost();
        return fault is null ? statistics : throw new PvmmapException(Errno.EAGAIN, "walk the heap", Snapshot.Identity.ProcessId,
            hint: $"{fault}; take the snapshot with {nameof(RuntimeSnapshotOptions.WaitForWalkableHeap)}");
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Runtime.Dispose();
        Runtime.DataTarget.Dispose();
        Snapshot.Dispose();
    }

    private static RuntimeSnapshot Open(ProcessSnapshot snapshot, string? dacPath, int attempt, TimeSpan stoppedBefore)
    {
        try
        {
            ClrRuntime runtime = SnapshotDataTarget.CreateRuntime(snapshot, dacPath);
            return new RuntimeSnapshot(snapshot, runtime) { Attempts = attempt, StopTime = stoppedBefore + snapshot.StopTime };
        }
        catch
        {
            snapshot.Dispose();
            throw;
        }
    }

    /// <summary>What ClrMD could not read it takes for empty: whether that was so, or the snapshot was lost, the reader knows.</summary>
    private void ThrowIfLost()
    {
        if (Runtime.DataTarget.DataReader is SnapshotDataReader { Failure: { } failure }) throw failure;
    }
}
