using Pvmmap.Bench;
using Xunit;

namespace Pvmmap.Tests.Bench;

public sealed class FindingTests
{
    [Theory]
    [InlineData(299.9, false)]
    [InlineData(300.0, true)]
    [InlineData(1000.0, true)]
    [InlineData(null, null)]
    public void A_lower_bound(double? value, bool? met) => Assert.Equal(met, new Finding("", value, FigureUnit.Times, AtLeast: 300).Met);

    [Theory]
    [InlineData(16777216.0, true)]
    [InlineData(16777217.0, false)]
    [InlineData(-4096.0, true)]
    [InlineData(null, null)]
    public void An_upper_bound(double? value, bool? met) => Assert.Equal(met, new Finding("", value, FigureUnit.Bytes, AtMost: 16 << 20).Met);

    [Fact]
    public void Without_a_bound_nothing_is_missed() => Assert.Null(new Finding("", 1e9, FigureUnit.Times).Met);

    [Fact]
    public void Words()
    {
        Assert.Equal(("512 x", "at least 300 x"), Words(new Finding("", 512.4, FigureUnit.Times, AtLeast: 300)));
        Assert.Equal(("7 MiB", "at most 16 MiB"), Words(new Finding("", 7 << 20, FigureUnit.Bytes, AtMost: 16 << 20)));
        Assert.Equal(("-4 KiB", ""), Words(new Finding("", -4096, FigureUnit.Bytes)));
        Assert.Equal(("0", "at most 0"), Words(new Finding("", 0, FigureUnit.Pages, AtMost: 0)));
        Assert.Equal(("not measured", "at most 0"), Words(new Finding("", null, FigureUnit.Pages, AtMost: 0)));

        static (string, string) Words(Finding finding) => (finding.Measured, finding.Wanted);
    }
}
