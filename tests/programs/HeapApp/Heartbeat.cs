using System.Diagnostics;

namespace HeapApp;

/// <summary>A thread that sleeps for a millisecond at a time and notes for how long it was away: as long as the process stood still, and then some.</summary>
internal static class Heartbeat
{
    private static long s_longest;

    public static void Start() => new Thread(Beat) { IsBackground = true, Name = "heartbeat" }.Start();

    public static long TakeLongestGap() => Interlocked.Exchange(ref s_longest, 0) / (Stopwatch.Frequency / 1_000_000);

    private static void Beat()
    {
        long last = Stopwatch.GetTimestamp();
        for (; ; )
        {
            Thread.Sleep(1);
            long now = Stopwatch.GetTimestamp(), gap = now - last, seen;
            while ((seen = Interlocked.Read(ref s_longest)) < gap && Interlocked.CompareExchange(ref s_longest, gap, seen) != seen) { }
            last = now;
        }
    }
}
