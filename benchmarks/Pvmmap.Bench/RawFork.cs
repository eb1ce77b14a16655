using System.Diagnostics;
using System.Runtime.InteropServices;
using Pvmmap.Linux;

namespace Pvmmap.Bench;

/// <summary>fork(2) of this process as the kernel does it, without what a C library adds. The child ends at once.</summary>
internal static unsafe partial class RawFork
{
    private const int PR_SET_PDEATHSIG = 1;

    public static TimeSpan Measure()
    {
        // Both bound before there is a child.
        Call(SystemCall.SYS_getpid, 0, 0, 0, 0, 0, 0);
        var exit = (delegate* unmanaged<int, void>)InLibc("_exit");
        long start = Stopwatch.GetTimestamp();
        long child = Call(SystemCall.SYS_clone, Signals.SIGCHLD, 0, 0, 0, 0, 0);
        if (child == 0) exit(0);
        TimeSpan time = Stopwatch.GetElapsedTime(start);
        if (child < 0) throw new InvalidOperationException($"fork() fails with {child}");
        Reap((int)child);
        return time;
    }

    /// <summary>A child that sleeps until <see cref="End"/>.</summary>
    public static int Hold()
    {
        Call(SystemCall.SYS_getpid, 0, 0, 0, 0, 0, 0);
        var pause = (delegate* unmanaged<int>)InLibc("pause");
        long child = Call(SystemCall.SYS_clone, Signals.SIGCHLD, 0, 0, 0, 0, 0);
        if (child == 0)
        {
            Call(SystemCall.SYS_prctl, PR_SET_PDEATHSIG, Signals.SIGKILL, 0, 0, 0, 0);
            while (true) pause();
        }

        if (child < 0) throw new InvalidOperationException($"fork() fails with {child}");
        return (int)child;
    }

    public static void End(int child)
    {
        SystemCall.Invoke(SystemCall.SYS_kill, child, Signals.SIGKILL).OrThrow("kill the child");
        Reap(child);
    }

    private static void Reap(int child)
    {
        int status;
        SystemCall.InvokeUninterrupted(SystemCall.SYS_wait4, child, (long)&status).OrThrow("wait for the child");
    }

    private static nint InLibc(string name) => NativeLibrary.GetExport(NativeLibrary.GetMainProgramHandle(), name);

    // The runtime is not told: its threads are not there in the child.
    [LibraryImport("libc", EntryPoint = "syscall")]
    [SuppressGCTransition]
    private static partial long Call(long number, long a1, long a2, long a3, long a4, long a5, long a6);
}
