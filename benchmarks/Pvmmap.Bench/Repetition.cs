namespace Pvmmap.Bench;

/// <summary>Repetitions of one measurement: as many as are wanted, and fewer on a machine on which they would take too long. The results say how many there were.</summary>
internal static class Repetition
{
    /// <summary>
    /// 0 and then 1 to <paramref name="wanted"/>. Round 0 is not counted: it finds the code, and in a virtual machine the memory.
    /// </summary>
    /// <param name="wanted">At most so many, besides round 0.</param>
    /// <param name="least">So many in any case.</param>
    /// <param name="time">When it is over no round begins but one of the least; null: all that are wanted.</param>
    /// <param name="clock">The system's unless told.</param>
    public static IEnumerable<int> Rounds(int wanted, int least, TimeSpan? time, TimeProvider? clock = null)
    {
        clock ??= TimeProvider.System;
        long start = clock.GetTimestamp();
        for (int round = 0; round <= wanted; round++)
        {
            if (round > least && clock.GetElapsedTime(start) >= time) yield break;
            yield return round;
        }
    }
}
