using System.Buffers.Binary;

namespace Pvmmap.Procfs;

/// <summary>/proc/PID/auxv: what the kernel told the program when it started it (getauxval(3)).</summary>
internal static class AuxiliaryVector
{
    /// <summary>Far above the highest AT_* of any kernel.</summary>
    private const ulong HighestType = 0xffff;

    /// <summary>
    /// Whether it is that of a 64-bit program: pairs of 64-bit words of which the first is a small number. In a 32-bit program's the same eight bytes
    /// are a whole pair, with the value, never 0 in the kernel's first entry, in the upper half. null: too short to tell.
    /// </summary>
    public static bool? IsOf64Bits(ReadOnlySpan<byte> text) =>
        text.Length < sizeof(ulong) ? null : BinaryPrimitives.ReadUInt64LittleEndian(text) <= HighestType;

    /// <exception cref="PvmmapException">ESRCH, EPERM.</exception>
    public static bool? IsOf64Bits(int pid) => ProcFile.Parse(pid, "auxv", IsOf64Bits);
}
