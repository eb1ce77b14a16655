using System.Diagnostics;
using Pvmmap;
using Pvmmap.Snapshots;

namespace HashTableSave;

/// <summary>Saves the table while the writers write: the point of the example is <see cref="FromSnapshot"/>.</summary>
internal sealed class Saver(NativeTable table, Load load, CancellationToken cancellation)
{
    /// <summary>The first snapshot of a process takes longer, for its code has yet to be compiled: so it is of one page, and nobody waits for it.</summary>
    public void WarmUp() => ProcessSnapshot.CaptureSelf(new PageRange(table.Range.Start, table.Range.Start + PageRange.PageSize)).Dispose();

    /// <summary>
    /// The writers wait for no longer than it takes to make the snapshot. CaptureSelf does not stop threads: it takes the memory at one instant, and it is
    /// the lock that puts this instant between two writes.
    /// </summary>
    public Save FromSnapshot(string path)
    {
        long begun = Stopwatch.GetTimestamp();
        load.Enter(Phase.Snapshot);
        ProcessSnapshot snapshot;
        TimeSpan paused;
        lock (table.Gate)
        {
            long held = Stopwatch.GetTimestamp();
            snapshot = ProcessSnapshot.CaptureSelf(table.Range);
            paused = Stopwatch.GetElapsedTime(held);
        }
        // From here on they write as they like.
        Save save;
        using (snapshot)
        {
            using (Stream content = snapshot.OpenRead(table.Range.Start, table.Range.Length)) SaveFile.Write(path, content, cancellation);
            TimeSpan time = Stopwatch.GetElapsedTime(begun);
            save = new Save(paused, time, ProcessSnapshot.Running().Single(listing => listing.KeeperPid == snapshot.KeeperPid).OwnBytes);
        }
        return Examine(path, save);
    }

    /// <summary>The plain way: nobody writes until all is on disk.</summary>
    public Save UnderTheLock(string path)
    {
        long begun = Stopwatch.GetTimestamp();
        load.Enter(Phase.Locked);
        TimeSpan paused;
        lock (table.Gate)
        {
            long held = Stopwatch.GetTimestamp();
            using Stream content = table.Open(FileAccess.Read);
            SaveFile.Write(path, content, cancellation);
            paused = Stopwatch.GetElapsedTime(held);
        }
        return Examine(path, new Save(paused, Stopwatch.GetElapsedTime(begun), 0));
    }

    /// <summary>How not to do it: the file has some writes, and not others that were made before them.</summary>
    public Save Torn(string path)
    {
        long begun = Stopwatch.GetTimestamp();
        load.Enter(Phase.Torn);
        using Stream content = table.Open(FileAccess.Read);
        SaveFile.Write(path, content, cancellation);
        return Examine(path, new Save(default, Stopwatch.GetElapsedTime(begun), 0));
    }

    private Save Examine(string path, Save save)
    {
        load.Enter(Phase.Examination);
        using NativeTable saved = NativeTable.Load(path, cancellation);
        Verdict verdict = saved.Examine();
        load.Enter(Phase.Quiet);
        return save with { Verdict = verdict };
    }
}
