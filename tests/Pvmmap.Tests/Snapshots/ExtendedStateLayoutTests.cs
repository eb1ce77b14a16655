using Pvmmap.Snapshots;
using Xunit;
using Component = Pvmmap.Snapshots.ExtendedStateLayout.Component;

namespace Pvmmap.Tests.Snapshots;

public sealed class ExtendedStateLayoutTests
{
    /// <summary>Zen 3: no room is left for what the processor does not have. Zen 4. Skylake.</summary>
    private static readonly Component[]
        s_avx = [new(2, 256, 576), new(9, 8, 2432)],
        s_avx512 = [new(2, 256, 576), new(5, 64, 832), new(6, 512, 896), new(7, 1024, 1408), new(9, 8, 2432)],
        s_intel = [new(2, 256, 576), new(3, 64, 960), new(4, 64, 1024), new(5, 64, 1088), new(6, 512, 1152), new(7, 1024, 1664), new(9, 8, 2688)];

    [Fact]
    public void What_lies_elsewhere_is_put_where_Intel_has_it()
    {
        byte[] moved = ExtendedStateLayout.AsInIntels(Area(2440, 0x2e7, s_avx512), s_avx512).ToArray();
        Assert.Equal(2696, moved.Length);
        Assert.Equal(Area(2440, 0x2e7, s_avx512)[..576], moved[..576]);
        foreach (Component part in s_intel)
        {
            byte expected = part.Number is 3 or 4 ? (byte)0 : (byte)part.Number;
            Assert.All(moved[part.Offset..(part.Offset + part.Length)], value => Assert.Equal(expected, value));
        }
        byte[] small = ExtendedStateLayout.AsInIntels(Area(2440, 0x207, s_avx), s_avx).ToArray();
        Assert.Equal(2696, small.Length);
        Assert.All(small[2688..], value => Assert.Equal(9, value));
        Assert.All(small[832..2688], value => Assert.Equal(0, value));
    }

    [Fact]
    public void What_lies_there_already_is_left_alone()
    {
        byte[] area = Area(2696, 0x2ff, s_intel);
        Assert.Equal(area, ExtendedStateLayout.AsInIntels(area, s_intel).ToArray());
        // without protection keys a Zen 4 has AVX-512 elsewhere, a Zen 2 has what Intel has
        area = Area(832, 7, s_avx[..1]);
        Assert.Equal(area, ExtendedStateLayout.AsInIntels(area, s_avx).ToArray());
    }

    [Fact]
    public void Unknown_parts_and_short_areas_are_left_alone()
    {
        Component[] parts = [.. s_avx512, new(18, 8192, 2816)];
        byte[] area = Area(11008, 0x402e7, parts);
        Assert.Equal(area, ExtendedStateLayout.AsInIntels(area, parts).ToArray());
        Assert.Equal(area, ExtendedStateLayout.AsInIntels(area, s_avx512).ToArray()); // enabled, and not among the parts
        area = Area(2440, 0x2e7, s_avx512)[..1500];
        Assert.Equal(area, ExtendedStateLayout.AsInIntels(area, s_avx512).ToArray());
        Assert.Equal(area[..300], ExtendedStateLayout.AsInIntels(area.AsSpan(0, 300), s_avx512).ToArray());
        Assert.Empty(ExtendedStateLayout.AsInIntels([], s_avx512).ToArray());
    }

    /// <summary>Sapphire Rapids: Intel's places, and the tiles of AMX behind them.</summary>
    [Fact]
    public void Unknown_parts_that_are_not_in_use_are_left_out()
    {
        Component[] parts = [.. s_intel, new(17, 64, 2752), new(18, 8192, 2816)];
        byte[] area = Area(11008, 0x602ff, parts);
        Assert.Equal(area, ExtendedStateLayout.AsInIntels(area, parts).ToArray());
        BitConverter.GetBytes(0x2ffUL).CopyTo(area, 512);
        byte[] expected = area[..2696];
        BitConverter.GetBytes(0x2ffUL).CopyTo(expected, 464);
        Assert.Equal(expected, ExtendedStateLayout.AsInIntels(area, parts).ToArray());
    }

    /// <summary>An area each part of which is full of its number.</summary>
    private static byte[] Area(int length, ulong enabled, IEnumerable<Component> parts)
    {
        byte[] area = new byte[length];
        for (int i = 0; i < 464; i++) area[i] = (byte)(i | 1);
        BitConverter.GetBytes(enabled).CopyTo(area, 464);
        BitConverter.GetBytes(enabled).CopyTo(area, 512);
        foreach (Component part in parts) area.AsSpan(part.Offset, part.Length).Fill((byte)part.Number);
        return area;
    }
}
