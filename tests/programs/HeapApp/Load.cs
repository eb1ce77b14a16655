using System.Globalization;

namespace HeapApp;

/// <summary>Threads that make objects all the time: small and large, arrays that are not cleared, finalizable and pinned ones, some that live for longer.</summary>
internal static class Load
{
    private static readonly List<Thread> s_threads = [];
    private static volatile bool s_stop;
    private static long s_made;

    public static void Start(int threads)
    {
        s_stop = false;
        for (int i = 0; i < threads; i++)
        {
            var thread = new Thread(Make) { IsBackground = true, Name = $"load {i}" };
            thread.Start(i);
            s_threads.Add(thread);
        }
    }

    public static long Stop()
    {
        s_stop = true;
        foreach (Thread thread in s_threads) thread.Join();
        s_threads.Clear();
        return Interlocked.Read(ref s_made);
    }

    private static void Make(object? number)
    {
        object?[] held = new object?[4096];
        var random = new Random((int)number!);
        while (!s_stop)
        {
            for (int i = 0; i < 1000; i++)
            {
                held[random.Next(held.Length)] = random.Next(1000) switch
                {
                    < 400 => new object[random.Next(8)],
                    < 700 => i.ToString(CultureInfo.InvariantCulture),
                    < 850 => new byte[random.Next(2000)],
                    < 950 => GC.AllocateUninitializedArray<byte>(random.Next(8000)),
                    < 990 => new Finalized(),
                    < 994 => GC.AllocateArray<byte>(random.Next(500), pinned: true),
                    < 996 => new byte[100_000 + random.Next(100_000)],
                    < 998 => GC.AllocateUninitializedArray<byte>(90_000 + random.Next(1_000_000)),
                    _ => new Dictionary<int, string> { [i] = "of " + i.ToString(CultureInfo.InvariantCulture) },
                };
            }

            Interlocked.Add(ref s_made, 1000);
        }
    }

    private sealed class Finalized
    {
        private static int s_ended;

        ~Finalized() => Interlocked.Increment(ref s_ended);
    }
}
