using System.Diagnostics;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>Waits for what must come true by itself, looking again and again until a deadline.</summary>
internal static class Eventually
{
    public static void Holds(Func<bool> condition, string what, int seconds = 20)
    {
        if (!Becomes(condition, seconds)) Assert.Fail($"not true after {Patience.Of(seconds).TotalSeconds} s: {what}");
    }

    /// <summary>As above; on failure says what was seen last.</summary>
    public static void Equals<T>(T expected, Func<T> actual, string what, int seconds = 20)
    {
        if (!Becomes(() => EqualityComparer<T>.Default.Equals(actual(), expected), seconds))
            Assert.Fail($"{what}: expected {expected} within {Patience.Of(seconds).TotalSeconds} s, last seen {actual()}");
    }

    public static bool Becomes(Func<bool> condition, int seconds)
    {
        TimeSpan patience = Patience.Of(seconds);
        var clock = Stopwatch.StartNew();
        using var never = new ManualResetEventSlim();
        while (!condition())
        {
            if (clock.Elapsed > patience) return false;
            never.Wait(5, TestContext.Current.CancellationToken);
        }
        return true;
    }
}
