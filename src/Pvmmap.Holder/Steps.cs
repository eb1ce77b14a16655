using System.Diagnostics;

namespace Pvmmap.Holder.Freestanding;

/// <summary>
/// Where a test build (PVMMAP_STEPS) stops, if <see cref="ControlPage.StopAt"/> says so, until it says otherwise; no other build calls this.
/// By way of the file: the mapping of the control page goes before the last steps.
/// </summary>
internal static unsafe class Steps
{
    private const long StopAtOffset = 0x1f8;
    private const long StoppedAtOffset = 0x1fc;
    private const long WordBytes = 4;

    /// <summary>Milliseconds; a test that has gone away leaves nobody standing for longer.</summary>
    private const uint Patience = 60_000;

    [Conditional("PVMMAP_STEPS")]
    public static void Reached(KernelEntry call, FillStep step)
    {
        if (!IsWanted(call, step))
            return;
        uint word = (uint)step;
        call(SystemCalls.pwrite64, HolderFds.Control, (long)&word, WordBytes, StoppedAtOffset, 0, 0);
        StandStill(call, step);
    }

    /// <summary>Stops where another thread is to stop at the step, for as long.</summary>
    [Conditional("PVMMAP_STEPS")]
    public static void StandStill(KernelEntry call, FillStep step)
    {
        for (uint waited = 0; waited < Patience && IsWanted(call, step); waited++)
            Kernel.Poll(call, null, 0, 1);
    }

    /// <summary>Cuts what is to be done in one piece, where the stop is between two.</summary>
    [Conditional("PVMMAP_STEPS")]
    public static void Halve(KernelEntry call, FillStep step, ulong* piece)
    {
        if (IsWanted(call, step))
            *piece = (*piece / 2 + Kernel.PageSize - 1) & ~(Kernel.PageSize - 1);
    }

    private static bool IsWanted(KernelEntry call, FillStep step)
    {
        uint word = 0;
        return call(SystemCalls.pread64, HolderFds.Control, (long)&word, WordBytes, StopAtOffset, 0, 0) == WordBytes && word == (uint)step;
    }
}
