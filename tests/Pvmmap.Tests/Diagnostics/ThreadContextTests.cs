using System.Runtime.InteropServices;
using Microsoft.Diagnostics.Runtime;
using Pvmmap.Diagnostics;
using Pvmmap.Snapshots;
using Xunit;

namespace Pvmmap.Tests.Diagnostics;

/// <summary>struct user_regs_struct and user_fpregs_struct (sys/user.h) beside ClrMD's own CONTEXT.</summary>
public sealed class ThreadContextTests
{
    private const uint FloatingPoint = 0x100008;

    private static readonly string[] s_fields =
    [
        "R15", "R14", "R13", "R12", "Rbp", "Rbx", "R11", "R10", "R9", "R8", "Rax", "Rcx", "Rdx", "Rsi", "Rdi", "orig_rax", "Rip", "Cs", "EFlags", "Rsp", "Ss", "fs_base",
        "gs_base", "Ds", "Es", "Fs", "Gs",
    ];

    [Fact]
    public void Each_register_goes_to_its_place()
    {
        AMD64Context context = Write(AMD64Context.ContextControl | AMD64Context.ContextInteger, out byte[] _);
        foreach ((int index, string name) in s_fields.Index())
        {
            if (typeof(AMD64Context).GetField(name) is not { } field) continue;
            Assert.Equal(Value(index, name), Convert.ToUInt64(field.GetValue(context), System.Globalization.CultureInfo.InvariantCulture));
        }

        Assert.Equal(0x100007u, context.ContextFlags);
        Assert.Equal(0u, context.MxCsr);
    }

    [Fact]
    public void The_floating_point_registers_come_when_they_are_asked_for()
    {
        AMD64Context context = Write(FloatingPoint, out byte[] bytes);
        Assert.Equal(0x10000Fu, context.ContextFlags);
        Assert.Equal(0x1F80u, context.MxCsr);
        Assert.Equal(FxSave(), bytes[0x100..0x300]);
    }

    [Theory]
    [InlineData(ThreadContext.Size - 1, 216)]
    [InlineData(ThreadContext.Size, 272)] // arm64's
    public void What_does_not_fit_is_refused(int room, int registers) =>
        Assert.False(ThreadContext.TryWrite(new SnapshotThread { ThreadId = 1, NamespaceThreadId = 1, GeneralRegisters = new byte[registers] }, FloatingPoint, new byte[room]));

    private static AMD64Context Write(uint flags, out byte[] bytes)
    {
        ulong[] registers = [.. s_fields.Select((name, index) => Value(index, name))];
        var thread = new SnapshotThread
        {
            ThreadId = 1,
            NamespaceThreadId = 1,
            GeneralRegisters = MemoryMarshal.AsBytes(registers.AsSpan()).ToArray(),
            FloatingPointRegisters = FxSave(),
        };
        bytes = new byte[ThreadContext.Size + 100];
        bytes.AsSpan().Fill(0xAA);
        Assert.True(ThreadContext.TryWrite(thread, flags, bytes));
        return MemoryMarshal.Read<AMD64Context>(bytes);
    }

    /// <summary>Each another; selectors have 16 bits, the flags 32.</summary>
    private static ulong Value(int index, string name) =>
        (ulong)(index + 1) * (name is "Cs" or "Ss" or "Ds" or "Es" or "Fs" or "Gs" ? 0x11UL : name == "EFlags" ? 0x1000UL : 0x0101_0101_0101_0101UL);

    private static byte[] FxSave()
    {
        byte[] area = [.. Enumerable.Range(0, 512).Select(i => (byte)(i * 7))];
        BitConverter.TryWriteBytes(area.AsSpan(24), 0x1F80u);
        return area;
    }
}
