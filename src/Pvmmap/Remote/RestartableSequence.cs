using System.Runtime.InteropServices;
using Pvmmap.Holder;
using Pvmmap.Linux;

namespace Pvmmap.Remote;

/// <summary>
/// rseq(2): a thread that is interrupted inside a critical section must go on at its abort address. The kernel sees to that when the thread
/// returns to user mode, but by the instruction it returns to, which is ours; so it is done here, for the registers that are put back.
/// </summary>
internal static unsafe class RestartableSequence
{
    /// <summary>struct ptrace_rseq_configuration (linux/ptrace.h, Linux 5.13).</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct Configuration
    {
        public ulong Pointer;
        public uint Size, Signature, Flags, Padding;
    }

    /// <summary>struct rseq_cs (linux/rseq.h).</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct CriticalSection
    {
        public uint Version, Flags;
        public ulong Start, Length, Abort;
    }

    private const int CriticalSectionOffset = 8;

    /// <summary>Asks for a thread's registration. EIO before Linux 5.13: docs/limits.md says what that means.</summary>
    public static TracerRequest Request(int tid, Configuration* configuration) =>
        TracerProcess.PtraceRequest(Ptrace.PTRACE_GET_RSEQ_CONFIGURATION, tid, sizeof(Configuration), (long)configuration);

    /// <summary>If the thread stands inside a critical section, makes <see cref="RemoteThread.Saved"/> go on at its abort address.</summary>
    public static void Abort(in Configuration configuration, RemoteThread thread, int pid)
    {
        if (KernelFeatures.IsWithout(KernelFeature.RseqConfiguration) || configuration.Pointer == 0) return;
        ulong at = 0;
        if (Memory.ReadFrom(pid, configuration.Pointer + CriticalSectionOffset, MemoryMarshal.AsBytes(new Span<ulong>(ref at))) != Errno.None || at == 0) return;
        CriticalSection section = default;
        if (Memory.ReadFrom(pid, at, MemoryMarshal.AsBytes(new Span<CriticalSection>(ref section))) != Errno.None) return;
        if (unchecked(thread.Saved.Rip - section.Start) < section.Length) thread.Saved.Rip = section.Abort;
    }
}
