using System.Globalization;
using Pvmmap.Snapshots;

namespace Pvmmap.Diagnostics;

/// <summary>
/// Threads by the numbers that the process itself knows them by: in a pid namespace of its own (a container) they are not those of the snapshot. The kernel
/// tells them for as long as the thread lives (NSpid in /proc/PID/task/TID/status); the context of one that has ended since cannot be told there.
/// </summary>
internal static class ThreadNumbers
{
    public static Dictionary<uint, SnapshotThread> Within(ProcessSnapshot snapshot)
    {
        var threads = new Dictionary<uint, SnapshotThread>();
        bool same = Inner(snapshot.Identity.ProcessId, snapshot.Identity.ProcessId) is null;
        foreach (SnapshotThread thread in snapshot.Threads)
        {
            uint? number = same ? (uint)thread.ThreadId : Inner(snapshot.Identity.ProcessId, thread.ThreadId);
            if (number is { } known) threads[known] = thread;
        }

        return threads;
    }

    /// <summary>The number in the innermost namespace; null if there is only one, or no such thread any more.</summary>
    private static uint? Inner(int pid, int tid)
    {
        try
        {
            string? line = File.ReadLines(string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/task/{tid}/status"))
                .FirstOrDefault(line => line.StartsWith("NSpid:", StringComparison.Ordinal));
            string[] numbers = line?[6..].Split('\t', StringSplitOptions.RemoveEmptyEntries) ?? [];
            return numbers.Length < 2 ? null : uint.Parse(numbers[^1], CultureInfo.InvariantCulture);
        }
        catch (IOException)
        {
            // ended, as the summary says: it has no number
            return null;
        }
    }
}
