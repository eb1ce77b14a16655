using System.Diagnostics;
using Pvmmap.Cli.Demo;

namespace Pvmmap.Bench;

/// <summary>How long one access to memory took, of many that were each made at another place, in random order. Nanoseconds.</summary>
internal readonly record struct Latency(ulong P50, ulong P99, ulong P999)
{
    /// <summary>Reads, or writes, the first byte of each stretch of so many bytes.</summary>
    public static Latency Measure(AnonymousMemory memory, ulong stride, bool write)
    {
        ulong[] offsets = [.. Enumerable.Range(0, (int)(memory.Length / stride)).Select(i => (ulong)i * stride)];
        // The same order in each round.
        new Random(1).Shuffle(offsets);
        ulong[] times = new ulong[offsets.Length];
        byte seen = 0;
        for (int i = 0; i < offsets.Length; i++)
        {
            ref byte at = ref memory.Slice(offsets[i])[0];
            long start = Stopwatch.GetTimestamp();
            if (write) Volatile.Write(ref at, (byte)i);
            else seen ^= Volatile.Read(ref at);
            times[i] = (ulong)Stopwatch.GetElapsedTime(start).TotalNanoseconds;
        }

        GC.KeepAlive(seen);
        return Of(times);
    }

    public static Latency Of(ulong[] times)
    {
        Array.Sort(times);
        return new Latency(At(0.5), At(0.99), At(0.999));

        ulong At(double part) => times[(int)(part * (times.Length - 1))];
    }
}
