using System.Runtime.Intrinsics.X86;

namespace Pvmmap.Snapshots;

/// <summary>
/// Where the parts of an XSAVE area in standard format lie. The processor decides it (CPUID leaf 0xD), and a core file does not say it: debuggers take it
/// for Intel's (gdb before 14 refuses the whole note otherwise, later ones guess by the length). Core files therefore always have Intel's.
/// </summary>
internal static class ExtendedStateLayout
{
    /// <summary>XCR0's bits as the kernel puts them into the area (struct user_xstateregs, sw_reserved), and XSTATE_BV.</summary>
    private const int EnabledOffset = 464, InUseOffset = 512;

    /// <summary>The legacy area and the header: alike on every processor.</summary>
    private const int FixedBytes = 576;

    /// <summary>Bits 0 and 1: x87 and SSE, in the legacy area.</summary>
    private const ulong Legacy = 3;

    /// <summary>A part of the area: number in XCR0, bytes, offset of its first byte.</summary>
    internal readonly record struct Component(int Number, int Length, int Offset);

    /// <summary>Intel's places: AVX, MPX, AVX-512, PKRU (Intel SDM volume 1, 13.4.3; gdb's i386 layout).</summary>
    private static readonly Component[] s_intel =
    [
        new(2, 256, 576), new(3, 64, 960), new(4, 64, 1024), new(5, 64, 1088), new(6, 512, 1152), new(7, 1024, 1664), new(9, 8, 2688),
    ];

    /// <summary>The parts that this machine's processor has, and their places.</summary>
    private static readonly Lazy<Component[]> s_here = new(Read);

    /// <summary>
    /// The area with each part where Intel has it, and without those of which that is not known (AMX) if the thread does not use them: gdb 13 warns of
    /// what is longer. The area itself if that is how it is, or if such a part is in use.
    /// </summary>
    public static ReadOnlySpan<byte> AsInIntels(ReadOnlySpan<byte> area) => AsInIntels(area, s_here.Value);

    /// <summary>The same for an area of a processor with these parts.</summary>
    internal static ReadOnlySpan<byte> AsInIntels(ReadOnlySpan<byte> area, IReadOnlyList<Component> parts)
    {
        if (area.Length <= FixedBytes) return area;
        ulong enabled = BitConverter.ToUInt64(area[EnabledOffset..]), inUse = BitConverter.ToUInt64(area[InUseOffset..]), known = Legacy, unknown = 0;
        bool differs = false;
        int length = FixedBytes;
        foreach (Component part in parts)
        {
            if ((enabled >> part.Number & 1) == 0) continue;
            if (part.Offset + part.Length > area.Length) return area;
            int place = Array.FindIndex(s_intel, other => other.Number == part.Number && other.Length == part.Length);
            if (place < 0)
            {
                unknown |= 1UL << part.Number;
                continue;
            }
            known |= 1UL << part.Number;
            differs |= s_intel[place].Offset != part.Offset;
            length = Math.Max(length, s_intel[place].Offset + part.Length);
        }
        if ((!differs && unknown == 0) || (enabled & ~(known | unknown)) != 0 || (inUse & ~known) != 0) return area;
        byte[] moved = new byte[length];
        area[..FixedBytes].CopyTo(moved);
        BitConverter.TryWriteBytes(moved.AsSpan(EnabledOffset), enabled & known);
        foreach (Component part in parts)
        {
            if (((enabled & known) >> part.Number & 1) == 0) continue;
            area.Slice(part.Offset, part.Length).CopyTo(moved.AsSpan(Array.Find(s_intel, other => other.Number == part.Number).Offset));
        }
        return moved;
    }

    private static Component[] Read()
    {
        const int leaf = 0xD, lastNumber = 62;
        if (!X86Base.IsSupported || X86Base.CpuId(0, 0).Eax < leaf) return [];
        var parts = new List<Component>();
        for (int number = 2; number <= lastNumber; number++)
        {
            // EAX: bytes, EBX: offset, ECX bit 0: one of the supervisor's, which are not in the standard format.
            (int length, int offset, int flags, _) = X86Base.CpuId(leaf, number);
            if (length != 0 && (flags & 1) == 0) parts.Add(new Component(number, length, offset));
        }
        return [.. parts];
    }
}
