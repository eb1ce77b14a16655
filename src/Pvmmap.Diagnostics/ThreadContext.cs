using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Pvmmap.Snapshots;

namespace Pvmmap.Diagnostics;

/// <summary>The kernel's registers (struct user_regs_struct and user_fpregs_struct of sys/user.h) as the CONTEXT of x86-64 that the runtime knows (winnt.h, pal.h).</summary>
internal static class ThreadContext
{
    /// <summary>Bytes of CONTEXT up to the end of its part that every version has.</summary>
    public const int Size = 1232;

    private const uint CONTEXT_AMD64 = 0x100000, CONTEXT_CONTROL = 1, CONTEXT_INTEGER = 2, CONTEXT_SEGMENTS = 4, CONTEXT_FLOATING_POINT = 8;

    // Offsets in CONTEXT.
    private const int ContextFlags = 0x30, MxCsr = 0x34, SegCs = 0x38, SegDs = 0x3A, SegEs = 0x3C, SegFs = 0x3E, SegGs = 0x40, SegSs = 0x42, EFlags = 0x44, Rax = 0x78,
        Rcx = 0x80, Rdx = 0x88, Rbx = 0x90, Rsp = 0x98, Rbp = 0xA0, Rsi = 0xA8, Rdi = 0xB0, R8 = 0xB8, R9 = 0xC0, R10 = 0xC8, R11 = 0xD0, R12 = 0xD8, R13 = 0xE0,
        R14 = 0xE8, R15 = 0xF0, Rip = 0xF8, FltSave = 0x100;

    private const int FxsaveSize = 512, FxsaveMxCsr = 24;

    /// <summary>The 8-byte fields of user_regs_struct, in their order, with where they go; -1 for what CONTEXT does not have.</summary>
    private static ReadOnlySpan<int> Integers => [R15, R14, R13, R12, Rbp, Rbx, R11, R10, R9, R8, Rax, Rcx, Rdx, Rsi, Rdi, -1 /* orig_rax */, Rip, -1 /* cs */, -1 /* eflags */, Rsp];

    // Indices in user_regs_struct.
    private const int cs = 17, eflags = 18, ss = 20, ds = 23, es = 24, fs = 25, gs = 26, Fields = 27;

    /// <summary>Writes what is asked for (the floating point registers only then), and says in the flags what is there.</summary>
    /// <returns>false if the room is too small or the processor is another.</returns>
    public static bool TryWrite(SnapshotThread thread, uint contextFlags, Span<byte> context)
    {
        ReadOnlySpan<byte> general = thread.GeneralRegisters.Span;
        if (context.Length < Size || general.Length != Fields * sizeof(ulong)) return false;
        ReadOnlySpan<ulong> registers = MemoryMarshal.Cast<byte, ulong>(general);
        context.Clear();
        uint flags = CONTEXT_AMD64 | CONTEXT_CONTROL | CONTEXT_INTEGER | CONTEXT_SEGMENTS;
        for (int i = 0; i < Integers.Length; i++)
        {
            if (Integers[i] >= 0) BinaryPrimitives.WriteUInt64LittleEndian(context[Integers[i]..], registers[i]);
        }

        foreach ((int at, int from) in ((int, int)[])[(SegCs, cs), (SegSs, ss), (SegDs, ds), (SegEs, es), (SegFs, fs), (SegGs, gs)])
        {
            BinaryPrimitives.WriteUInt16LittleEndian(context[at..], (ushort)registers[from]);
        }

        BinaryPrimitives.WriteUInt32LittleEndian(context[EFlags..], (uint)registers[eflags]);
        ReadOnlySpan<byte> fxsave = thread.FloatingPointRegisters.Span;
        if ((contextFlags & CONTEXT_FLOATING_POINT) != 0 && fxsave.Length == FxsaveSize)
        {
            // XMM_SAVE_AREA32 is what the instruction FXSAVE writes, and so is user_fpregs_struct
            fxsave.CopyTo(context[FltSave..]);
            fxsave.Slice(FxsaveMxCsr, sizeof(uint)).CopyTo(context[MxCsr..]);
            flags |= CONTEXT_FLOATING_POINT;
        }

        BinaryPrimitives.WriteUInt32LittleEndian(context[ContextFlags..], flags);
        return true;
    }
}
