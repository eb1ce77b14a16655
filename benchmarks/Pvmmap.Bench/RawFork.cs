using System.Diagnostics;
using System.Runtime.InteropServices;
using Pvmmap.Linux;

namespace Pvmmap.Bench;

/// <summary>fork(2) of this process as the kernel does it, without what a C library adds. The child ends at once.</summary>
internal static unsafe partial class RawFork
{
    public static TimeSpan Measure()
    {
        // Both bound before there is a child.
        Call(SystemCall.SYS_getpid, 0, 0, 0, 0, 0, 0);
        delegate* unmanaged<int, void> exit = (delegate* unmanaged<int, void>)NativeLibrary.GetExport(NativeLibrary.GetMainProgramHandle(), "_exit");
        long start = Stopwatch.GetTimestamp();
        long child = Call(SystemCall.SYS_clone, Signals.SIGCHLD, 0, 0, 0, 0, 0);
        if (child == 0) exit(0);
        TimeSpan time = Stopwatch.GetElapsedTime(start);
        if (child < 0) throw new InvalidOperationException($"fork() fails with {child}");
        int status;
        SystemCall.InvokeUninterrupted(SystemCall.SYS_wait4, child, (long)&status).OrThrow("wait for the child");
        return time;
    }

    // The runtime is not told: its threads are not there in the child.
    [LibraryImport("libc", EntryPoint = "syscall")]
    [SuppressGCTransition]
    private static partial long Call(long number, long a1, long a2, long a3, long a4, long a5, long a6);
}
