using System.Diagnostics;

namespace HashTableSave;

/// <summary>Threads that write into the table as fast as they can, and note for how long each write took, its wait for the lock included.</summary>
internal sealed class Load : IDisposable
{
    private const int OneIn = 16;

    private readonly NativeTable table;
    private readonly Thread[] threads;
    private readonly Meter[][] meters;
    private readonly TimeSpan[] times = new TimeSpan[Enum.GetValues<Phase>().Length];
    private volatile int phase;
    private volatile bool ended;
    private long since = Stopwatch.GetTimestamp();

    public Load(NativeTable table, int writers)
    {
        this.table = table;
        meters = [.. Enumerable.Range(0, writers).Select(_ => Enum.GetValues<Phase>().Select(_ => new Meter()).ToArray())];
        threads = [.. meters.Select((own, i) => new Thread(() => Write(own, (ulong)i + 1)) { IsBackground = true, Name = $"writer {i + 1}" })];
        foreach (Thread thread in threads) thread.Start();
    }

    /// <summary>From now on the writers' figures are those of this phase.</summary>
    public void Enter(Phase next)
    {
        long now = Stopwatch.GetTimestamp();
        times[phase] += Stopwatch.GetElapsedTime(since, now);
        since = now;
        phase = (int)next;
    }

    /// <summary>Ends the threads. Figures are there from then on.</summary>
    public void Dispose()
    {
        if (ended) return;
        Enter(Phase.Quiet);
        ended = true;
        foreach (Thread thread in threads) thread.Join();
    }

    public TimeSpan Longest(Phase of) => Stopwatch.GetElapsedTime(0, meters.Max(own => own[(int)of].Longest));

    public double PerSecond(Phase of) => times[(int)of] == default ? 0 : meters.Sum(own => own[(int)of].Writes) / times[(int)of].TotalSeconds;

    private void Write(Meter[] own, ulong random)
    {
        while (!ended)
        {
            ulong one = NativeTable.Mix(random += 0x9e3779b97f4a7c15), other = NativeTable.Mix(random += 0x9e3779b97f4a7c15);
            int before = phase;
            long begun = Stopwatch.GetTimestamp();
            lock (table.Gate)
            {
                if (one % OneIn == 0) table.Replace(one, other);
                else table.Transfer(one, other);
            }
            long took = Stopwatch.GetTimestamp() - begun;
            // One that a save has delayed may have begun before it or ended after it.
            Meter meter = own[before == (int)Phase.Quiet ? phase : before];
            meter.Writes++;
            meter.Longest = Math.Max(meter.Longest, took);
        }
    }

    private sealed class Meter
    {
        public long Writes;

        public long Longest;
    }
}
