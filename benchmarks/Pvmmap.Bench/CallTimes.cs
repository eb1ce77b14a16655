using System.Diagnostics;

namespace Pvmmap.Bench;

/// <summary>One call of process_vm_mmap() and the fill behind it, as the caller timed them, from the start of the call.</summary>
/// <param name="Call">Until the library returned.</param>
/// <param name="Complete">Until every page was in place.</param>
/// <param name="SwappedIn">Pages that the machine read in from swap between the start of the call and its return.</param>
/// <param name="SourceStop">For how long no thread of the source ran.</param>
/// <param name="TargetStop">For how long no thread of the target ran.</param>
internal readonly record struct CallTimes(TimeSpan Call, TimeSpan Complete, ulong SwappedIn, TimeSpan SourceStop, TimeSpan TargetStop)
{
    /// <summary>Makes the call and waits until every page is in place; then, with the times taken, <paramref name="filled"/>.</summary>
    public static CallTimes Of(Func<MmapResult> call, Action<Duplication>? filled = null)
    {
        ulong swappedIn = SwapTraffic.PagesIn();
        long start = Stopwatch.GetTimestamp();
        MmapResult result = call();
        TimeSpan called = Stopwatch.GetElapsedTime(start);
        swappedIn = SwapTraffic.PagesIn() - swappedIn;
        using Duplication fill = result.Duplication;
        fill.Wait(Timeout.InfiniteTimeSpan);
        TimeSpan complete = Stopwatch.GetElapsedTime(start);
        if (fill.State != DuplicationState.Complete) throw new InvalidOperationException($"the fill ended as {fill.State}");
        if (result.Notes.Count > 0) throw new InvalidOperationException($"this machine lacks what the measurement needs: {result.Notes[0]}");
        filled?.Invoke(fill);
        return new CallTimes(called, complete, swappedIn, result.SourceStopTime, result.TargetStopTime);
    }

    /// <summary>As numbers, for a line from process to process.</summary>
    public object[] ToWords() => [Call.Ticks, Complete.Ticks, SwappedIn, SourceStop.Ticks, TargetStop.Ticks];

    public static CallTimes FromWords(ulong[] words) =>
        new(new((long)words[0]), new((long)words[1]), words[2], new((long)words[3]), new((long)words[4]));
}
