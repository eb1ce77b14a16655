using Pvmmap.Bench;
using Xunit;

namespace Pvmmap.Tests.Bench;

public sealed class SpreadTests
{
    [Theory]
    [InlineData(new[] { 5.0 }, 5, 5, 5)]
    [InlineData(new[] { 9.0, 1, 4 }, 4, 1, 9)]
    [InlineData(new[] { 10.0, 9, 1, 3 }, 6, 1, 10)]
    public void Median_and_extremes(double[] microseconds, double p50, double minimum, double maximum) =>
        Assert.Equal(new Spread(microseconds.Length, p50, minimum, maximum), Spread.Of([.. microseconds.Select(TimeSpan.FromMicroseconds)]));
}
