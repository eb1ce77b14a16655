using System.Diagnostics;
using System.Globalization;
using Pvmmap;

// The program whose start ./bench startup measures. Without arguments it does nothing; with PID ADDRESS LENGTH COUNT it pulls that range of process
// PID so many times, each time in place of the last. Prints the time (CLOCK_MONOTONIC, in ns) at which it began and, of each call, when it had
// returned, the ns that it took and the bytes that it allocated in the managed heap, on all threads.
long began = Nanoseconds(Stopwatch.GetTimestamp());
var calls = new List<long>();
if (args is [var pid, var address, var length, var count]) Pull(int.Parse(pid, Invariant), ulong.Parse(address, Invariant), ulong.Parse(length, Invariant), int.Parse(count, Invariant));
Console.Out.WriteLine(string.Join(' ', (IEnumerable<long>)[began, .. calls]));

void Pull(int source, ulong from, ulong bytes, int times)
{
    calls.Capacity = 3 * times;
    for (int i = 0; i < times; i++)
    {
        long allocated = GC.GetTotalAllocatedBytes(precise: true), start = Stopwatch.GetTimestamp();
        MmapResult result = ProcessVm.Mmap(source, from, bytes, Place, MmapFlags.Fixed);
        long end = Stopwatch.GetTimestamp();
        allocated = GC.GetTotalAllocatedBytes(precise: true) - allocated;
        calls.AddRange([Nanoseconds(end), Nanoseconds(end - start), allocated]);
        using Duplication fill = result.Duplication;
        fill.Wait(Timeout.InfiniteTimeSpan);
        if (fill.State != DuplicationState.Complete) throw new InvalidOperationException($"the fill ended as {fill.State}");
    }
}

static long Nanoseconds(long ticks) => (long)(ticks * (1e9 / Stopwatch.Frequency));

internal static partial class Program
{
    /// <summary>Where nothing is mapped when a process starts.</summary>
    private const ulong Place = 0x2000_0000_0000;

    private static CultureInfo Invariant => CultureInfo.InvariantCulture;
}
