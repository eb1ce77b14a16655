using System.Diagnostics;
using Pvmmap.Linux;

namespace Pvmmap;

/// <summary>Where a call has got to. Only a build with PVMMAP_STEPS defined tells (-c Steps); in all others the calls of these methods are not compiled.</summary>
internal static class Step
{
#if PVMMAP_STEPS
    private static int s_source;
    private static bool s_isMove;

    /// <summary>Told of each step on the thread that makes the call, with the number of the new holder where that is known, else 0.</summary>
    public static Action<CallStep, int>? Listener { get; set; }

    /// <summary>Told of each step that only a capture has, with the number of the keeper where it is known, else 0.</summary>
    public static Action<SnapshotStep, int>? SnapshotListener { get; set; }

    /// <summary>Told of each control page before its holder has it.</summary>
    public static Action<FileDescriptor>? ControlListener { get; set; }
#endif

    /// <summary>A call begins. One at a time.</summary>
    [Conditional("PVMMAP_STEPS")]
    public static void Begin(int source, bool isMove)
    {
#if PVMMAP_STEPS
        (s_source, s_isMove) = (source, isMove);
#endif
    }

    [Conditional("PVMMAP_STEPS")]
    public static void Reached(CallStep step, int holder = 0)
    {
#if PVMMAP_STEPS
        Listener?.Invoke(step, holder);
#endif
    }

    [Conditional("PVMMAP_STEPS")]
    public static void Reached(SnapshotStep step, int keeper = 0)
    {
#if PVMMAP_STEPS
        SnapshotListener?.Invoke(step, keeper);
#endif
    }

    /// <summary>The same done in a process that is the source or the target.</summary>
    [Conditional("PVMMAP_STEPS")]
    public static void ReachedIn(int pid, CallStep source, CallStep target, CallStep movedSource = CallStep.None)
    {
#if PVMMAP_STEPS
        Reached(pid != s_source ? target : s_isMove && movedSource != CallStep.None ? movedSource : source);
#endif
    }

    [Conditional("PVMMAP_STEPS")]
    public static void ControlMade(FileDescriptor control)
    {
#if PVMMAP_STEPS
        ControlListener?.Invoke(control);
        Reached(CallStep.ControlMade);
#endif
    }
}
