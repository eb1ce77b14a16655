using System.Buffers;
using System.Buffers.Binary;
using Pvmmap.Linux;
using Pvmmap.Procfs;

namespace Pvmmap.Remote;

/// <summary>
/// For the two calls that cannot run on the trampoline (mapping it and unmapping it): a signal frame below the thread's red zone, as the kernel
/// itself would push one. The call runs on a <c>syscall; ret</c> of the C library and returns into its rt_sigreturn, so that the thread finds
/// back by itself if the tracer dies between the two. Only on the main stack: elsewhere what lies below may be another stack's (Go).
/// </summary>
/// <param name="Stack">The stack pointer that makes rt_sigreturn find it.</param>
/// <param name="Instruction">The <c>syscall; ret</c>.</param>
/// <param name="Below">Where the memory begins that it, and the calls below it, use.</param>
internal sealed record SignalFrame(ulong Stack, ulong Instruction, ulong Below) : IDisposable
{
    // asm/sigcontext.h, asm/ucontext.h of x86-64.
    private const int RedZone = 128;
    private const int ContextOffset = 8;
    private const int RegistersOffset = ContextOffset + 40;
    private const int StackFlagsOffset = ContextOffset + 24;
    private const int FpStateOffset = RegistersOffset + 184;
    private const int SignalMaskOffset = RegistersOffset + 256;
    private const int FrameBytes = 0x400;
    private const ulong UC_FP_XSTATE = 1, UC_SIGCONTEXT_SS = 2, UC_STRICT_RESTORE_SS = 4;
    private const uint FP_XSTATE_MAGIC1 = 0x46505853, FP_XSTATE_MAGIC2 = 0x46505845;
    private const int SoftwareReservedOffset = 464;

    /// <summary>Bytes that PTRACE_GETREGSET may give, and 8 more.</summary>
    public const int LargestExtendedState = 16 * 1024;
    private const ushort UserStackSegment = 0x2b;

    // Rented: it would be half of what a call allocates.
    private byte[]? content;
    private int length;

    /// <summary>What it lies over, and the calls below it.</summary>
    public PageRange Range => new(Below, Below + (ulong)length);

    /// <summary>What was there: below a stack pointer nothing is kept by rule, but what has been read there was the process's own.</summary>
    public ReadOnlySpan<byte> Content => content.AsSpan(0, length);

    /// <summary>Bytes below the frame at which calls on the trampoline have their stack pointer.</summary>
    public const ulong Distance = 256;

    // The calls on the trampoline push less than this.
    private const ulong CallBytes = 256;

    /// <summary>Writes the frame. Null if the thread is not on the main stack, or the code it takes is not found: the window stays open then.</summary>
    /// <param name="thread">The thread.</param>
    /// <param name="pid">Its process.</param>
    /// <param name="signalMask">To be restored.</param>
    /// <param name="maps">The mappings of the process.</param>
    /// <param name="xstate">NT_X86_XSTATE of the thread, in a buffer of <see cref="LargestExtendedState"/> bytes.</param>
    /// <param name="xstateBytes">Its length; 0 if it is not known.</param>
    public static SignalFrame? Write(RemoteThread thread, int pid, ulong signalMask, MapsFile maps, byte[] xstate, int xstateBytes)
    {
        if (xstateBytes == 0) return null;
        if (maps.FindFrom(thread.Saved.Rsp) is not { IsStack: true } stack || stack.Range.Start > thread.Saved.Rsp) return null;
        if (ReturningCode.Find(pid, maps, thread.Saved.Rip) is not { } code || !code.IsThere(pid)) return null;

        ulong features = BinaryPrimitives.ReadUInt64LittleEndian(xstate.AsSpan(SoftwareReservedOffset));
        Span<byte> reserved = xstate.AsSpan(SoftwareReservedOffset, 48);
        reserved.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(reserved, FP_XSTATE_MAGIC1);
        BinaryPrimitives.WriteInt32LittleEndian(reserved[4..], xstateBytes + 4);
        BinaryPrimitives.WriteUInt64LittleEndian(reserved[8..], features);
        BinaryPrimitives.WriteInt32LittleEndian(reserved[16..], xstateBytes);
        BinaryPrimitives.WriteUInt32LittleEndian(xstate.AsSpan(xstateBytes), FP_XSTATE_MAGIC2);

        ulong at = ((thread.Saved.Rsp - RedZone - FrameBytes - (ulong)xstateBytes - 64) & ~63UL) - 8;
        if (at < stack.Range.Start + PageRange.PageSize) return null;
        Span<byte> frame = stackalloc byte[FrameBytes];
        Build(frame, thread.Saved, signalMask, code.Restore, at + 8 + FrameBytes);
        ulong below = at - Distance - CallBytes;
        int length = (int)(at + 8 + FrameBytes + (ulong)xstateBytes + 4 - below);
        SignalFrame whole = new(at, code.SyscallReturn, below) { content = ArrayPool<byte>.Shared.Rent(length), length = length };
        if (Memory.ReadFrom(pid, below, whole.content.AsSpan(0, length)) == Errno.None
            && Memory.WriteTo(pid, at, frame, at + 8 + FrameBytes, xstate.AsSpan(0, xstateBytes + 4)) == Errno.None) return whole;
        whole.Dispose();
        return null;
    }

    /// <summary>The content is not needed any more.</summary>
    public void Dispose()
    {
        if (content is null) return;
        ArrayPool<byte>.Shared.Return(content);
        (content, length) = (null, 0);
    }

    private static void Build(Span<byte> frame, in Ptrace.Registers saved, ulong signalMask, ulong restore, ulong fpState)
    {
        Ptrace.Registers r = SystemCallRestart.EmulateFromTheStart(saved);
        frame.Clear();
        Put(frame, 0, restore);
        Put(frame, ContextOffset, UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS);
        // Flags that sigaltstack refuses: the alternate stack stays as it is, whatever it is.
        Put(frame, StackFlagsOffset, uint.MaxValue);
        ReadOnlySpan<ulong> registers =
        [
            r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14, r.R15, r.Rdi, r.Rsi, r.Rbp, r.Rbx, r.Rdx, r.Rax, r.Rcx, r.Rsp, r.Rip, r.Eflags,
            Ptrace.UserCodeSegment64 | ((ulong)UserStackSegment << 48),
        ];
        for (int i = 0; i < registers.Length; i++) Put(frame, RegistersOffset + (8 * i), registers[i]);
        Put(frame, FpStateOffset, fpState);
        Put(frame, SignalMaskOffset, signalMask);

        static void Put(Span<byte> frame, int offset, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(frame[offset..], value);
    }
}
