using System.Runtime.InteropServices;

namespace Pvmmap.Linux;

/// <summary>futex(2) on memory shared with a process that is not a thread of ours: never FUTEX_PRIVATE_FLAG.</summary>
internal static unsafe class Futex
{
    public const int FUTEX_WAIT = 0;
    public const int FUTEX_WAKE = 1;

    [StructLayout(LayoutKind.Sequential)]
    public struct TimeSpec
    {
        public long Seconds;
        public long Nanoseconds;

        public static TimeSpec From(TimeSpan time) =>
            new() { Seconds = (long)time.TotalSeconds, Nanoseconds = time.Ticks % TimeSpan.TicksPerSecond * 100 };
    }

    /// <summary>Sleeps while <paramref name="word"/> holds <paramref name="value"/>, at most for <paramref name="timeout"/>; wakes early at will.</summary>
    public static void Wait(uint* word, uint value, TimeSpan timeout)
    {
        TimeSpec time = TimeSpec.From(timeout);
        SystemCall.Invoke(SystemCall.SYS_futex, (long)word, FUTEX_WAIT, value, (long)&time);
    }

    public static void Wake(uint* word) => SystemCall.Invoke(SystemCall.SYS_futex, (long)word, FUTEX_WAKE, 1);
}
