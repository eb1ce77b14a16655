namespace Pvmmap.Linux;

/// <summary>The system call, of a kernel that has it. No Linux has it by itself: its number is ours alone.</summary>
internal static class ProcessVmMmap
{
    // Only the flags by which the probes differ.
    private const long Fixed = (long)MmapFlags.Fixed, Move = (long)MmapFlags.Move, Lazy = (long)MmapFlags.Lazy, Populate = (long)MmapFlags.Populate;

    // Above every pid_max: no process has it.
    private const long Nobody = int.MaxValue;

    private const long Page = (long)PageRange.PageSize;

    private static readonly Lazy<bool> s_isPresent = new(() => !Processor.IsArm64 && Probe(Invoke));

    /// <summary>Asked once in each process.</summary>
    public static bool IsPresent => s_isPresent.Value;

    /// <summary>
    /// True if a kernel answers as only this call does: flags and alignment are checked before the process, whose sign does not matter. None of the
    /// probes can touch anything: unknown flags first, which any other call behind this number has to refuse too, and then no process.
    /// </summary>
    /// <param name="call">The call: pid, source, length, destination, flags.</param>
    public static bool Probe(Func<long, long, long, long, long, SyscallResult> call) =>
        call(0, 0, 0, 0, ~0).Errno == Errno.EINVAL
        && call(Nobody, Page, Page, 0, ~0).Errno == Errno.EINVAL
        && call(Nobody, Page, Page, 0, 0).Errno == Errno.ESRCH
        && call(-Nobody, Page, Page, 0, 0).Errno == Errno.ESRCH
        && call(Nobody, Page, Page, 1, Fixed).Errno == Errno.EINVAL
        && call(Nobody, Page, 0, 0, 0).Errno == Errno.EINVAL
        && call(Nobody, Page, Page, 0, Lazy | Populate).Errno == Errno.EINVAL
        && call(Nobody, Page, Page, 0, Move | Populate).Errno == Errno.ESRCH;

    public static SyscallResult Invoke(long pid, long source, long length, long destination, long flags) =>
        SystemCall.Invoke(X64SystemCalls.SYS_process_vm_mmap, pid, source, length, destination, flags);
}
