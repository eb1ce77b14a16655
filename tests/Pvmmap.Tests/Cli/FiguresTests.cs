using Pvmmap.Cli;
using Xunit;

namespace Pvmmap.Tests.Cli;

public sealed class FiguresTests
{
    [Theory]
    [InlineData(0UL, "0 B")]
    [InlineData(1023UL, "1023 B")]
    [InlineData(1024UL, "1 KiB")]
    [InlineData(1536UL, "1.5 KiB")]
    [InlineData((1UL << 20) - 1, "1 MiB")]
    [InlineData(616UL << 20, "616 MiB")]
    [InlineData((616UL << 20) + (1 << 18), "616 MiB")]
    [InlineData(ulong.MaxValue, "16 EiB")]
    public void Bytes_are_in_binary_units(ulong bytes, string expected) => Assert.Equal(expected, Figures.Bytes(bytes));

    [Theory]
    [InlineData(0, "0 us")]
    [InlineData(999, "999 us")]
    [InlineData(1_000, "1.0 ms")]
    [InlineData(23_456, "23.5 ms")]
    [InlineData(788_000, "788 ms")]
    [InlineData(1_234_567, "1.23 s")]
    [InlineData(61_000_000, "1 min 1 s")]
    [InlineData(7_260_000_000, "2 h 1 min")]
    public void Durations_have_the_unit_that_fits(long microseconds, string expected) =>
        Assert.Equal(expected, Figures.Duration(TimeSpan.FromMicroseconds(microseconds)));

    [Theory]
    [InlineData(0UL, 0UL, "100 %")]
    [InlineData(0UL, 10UL, "0 %")]
    [InlineData(999UL, 1000UL, "99 %")] // not 100 before it is all there
    [InlineData(1000UL, 1000UL, "100 %")]
    public void Percentages_are_rounded_down(ulong part, ulong whole, string expected) => Assert.Equal(expected, Figures.Percent(part, whole));

    [Theory]
    [InlineData(1.004, "1.00")]
    [InlineData(2.5, "2.50")]
    [InlineData(28.4, "28")]
    public void Ratios_keep_three_digits(double ratio, string expected) => Assert.Equal(expected, Figures.Ratio(ratio));
}
