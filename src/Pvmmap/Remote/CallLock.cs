using System.Diagnostics;
using System.Globalization;
using Pvmmap.Linux;

namespace Pvmmap.Remote;

/// <summary>
/// Keeps two calls from stopping each other in the middle: A that takes from B while B takes from A, or a move from S to T beside one from T to S. A call
/// holds a lock on its own process that others share, and one that nobody shares on each process that it stops: flock(2) of the directory /proc/PID, which
/// whoever sees a process can open, and which ends with the caller at the latest. All take them in the order of the process numbers.
/// </summary>
/// <remarks>
/// The directory and no file in it: .NET locks each file that it opens, so that a program that reads /proc/PID/status would fail. Advisory, and only among
/// those who see the same mount of /proc: what keeps two tracers apart is ptrace(2) itself. So where a lock is not to be had, because somebody else keeps
/// it or /proc hides the process, the call goes on without.
/// </remarks>
internal sealed class CallLock : IDisposable
{
    private const int LOCK_SH = 1, LOCK_EX = 2, LOCK_NB = 4, LOCK_UN = 8;

    // Far longer than a call takes that copies nothing.
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(5);

    private readonly List<FileDescriptor> files = [];

    private CallLock()
    {
    }

    /// <summary>Waits until no other call stops one of these or this process.</summary>
    /// <param name="others">The processes that are going to be stopped. This process may be among them: it does not stop itself, but is not to be stopped.</param>
    public static CallLock Take(params ReadOnlySpan<int> others)
    {
        CallLock taken = new();
        foreach (int pid in new SortedSet<int>([.. others, Environment.ProcessId])) taken.Add(pid);
        return taken;
    }

    private void Add(int pid)
    {
        SyscallResult opened = Files.TryOpen(string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}"), Files.O_RDONLY);
        if (opened.Failed) return;
        FileDescriptor file = new(opened.Value);
        int kind = pid == Environment.ProcessId ? LOCK_SH : LOCK_EX;
        long since = Stopwatch.GetTimestamp();
        SpinWait wait = default;
        while (SystemCall.Invoke(SystemCall.SYS_flock, file.Number, kind | LOCK_NB).Failed)
        {
            if (Stopwatch.GetElapsedTime(since) > s_patience)
            {
                file.Dispose();
                return;
            }
            wait.SpinOnce();
        }
        files.Add(file);
    }

    public void Dispose()
    {
        foreach (FileDescriptor file in files)
        {
            // A child that another thread has forked meanwhile has the descriptor too.
            SystemCall.Invoke(SystemCall.SYS_flock, file.Number, LOCK_UN);
            file.Dispose();
        }
        files.Clear();
    }
}
