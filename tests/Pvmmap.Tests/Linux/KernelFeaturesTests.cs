using System.Numerics;
using System.Reflection;
using Pvmmap.Linux;
using Xunit;

namespace Pvmmap.Tests.Linux;

public sealed class KernelFeaturesTests
{
    [Fact]
    public void Each_feature_has_one_name_and_one_bit()
    {
        uint[] bits = [.. typeof(KernelFeature).GetFields(BindingFlags.Static | BindingFlags.Public).Select(field => (uint)field.GetRawConstantValue()!)];
        Assert.All(bits, bit => Assert.Equal(1, BitOperations.PopCount(bit)));
        Assert.Equal(bits.Order(), KernelFeatures.All.Select(entry => entry.Bit).Order());
        Assert.Distinct(bits);
        Assert.Distinct(KernelFeatures.All.Select(entry => entry.Name));
        Assert.Distinct(KernelFeatures.All.Select(entry => entry.Title));
    }

    [Fact]
    public void Names_are_read_in_any_order_and_with_blanks()
    {
        Assert.Equal(0u, KernelFeatures.Parse(null));
        Assert.Equal(0u, KernelFeatures.Parse(""));
        Assert.Equal(KernelFeature.Kcmp | KernelFeature.Poison, KernelFeatures.Parse(" poison, kcmp,"));
        Assert.Equal(KernelFeatures.All.Aggregate(0u, (bits, entry) => bits | entry.Bit), KernelFeatures.Parse(string.Join(',', KernelFeatures.All.Select(entry => entry.Name))));
    }

    [Theory]
    [InlineData("Poison")]
    [InlineData("poison,kcmp2")]
    [InlineData("poison kcmp")]
    public void An_unknown_name_is_refused_and_all_known_ones_are_listed(string names)
    {
        PvmmapException exception = Assert.Throws<PvmmapException>(() => KernelFeatures.Parse(names));
        Assert.Equal(Errno.EINVAL, exception.Errno);
        Assert.Contains(KernelFeatures.Variable, exception.Message, StringComparison.Ordinal);
        Assert.All(KernelFeatures.All, entry => Assert.Contains(entry.Name, exception.Message, StringComparison.Ordinal));
    }

    [Fact]
    public void The_table_in_the_docs_has_them_all_in_order()
    {
        string[] named = [.. File.ReadLines(Path.Combine(AppContext.BaseDirectory, "docs/limits.md"))
            .Select(line => line.Split('|', StringSplitOptions.TrimEntries))
            .Where(cells => cells.Length == 6 && cells[1].StartsWith('`') && KernelFeatures.All.Any(entry => $"`{entry.Name}`" == cells[1]))
            .Select(cells => cells[1].Trim('`'))];
        Assert.Equal(KernelFeatures.All.Select(entry => entry.Name), named);
    }
}
