using System.Runtime.InteropServices;

namespace StepCaller;

/// <summary>A child that does nothing but exist: no managed code of it runs that could wait for a thread it does not have.</summary>
internal static unsafe class Fork
{
    public static int AndRest()
    {
        nint libc = NativeLibrary.Load("libc.so.6");
        var fork = (delegate* unmanaged[SuppressGCTransition]<int>)NativeLibrary.GetExport(libc, "fork");
        var pause = (delegate* unmanaged[SuppressGCTransition]<int>)NativeLibrary.GetExport(libc, "pause");
        int pid = fork();
        while (pid == 0) pause();
        return pid;
    }
}
