namespace Pvmmap.Bench;

/// <summary>Several measurements of the same thing; of times, in microseconds.</summary>
internal sealed record Spread(int Rounds, double P50, double Minimum, double Maximum)
{
    /// <summary>The median of an even number is the mean of the two in the middle.</summary>
    public static Spread Of(IReadOnlyCollection<TimeSpan> times) => Of([.. times.Select(time => time.TotalMicroseconds)]);

    /// <inheritdoc cref="Of(IReadOnlyCollection{TimeSpan})"/>
    public static Spread Of(IReadOnlyCollection<double> values)
    {
        double[] sorted = [.. values.Order()];
        int middle = sorted.Length / 2;
        double median = sorted.Length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
        return new Spread(sorted.Length, median, sorted[0], sorted[^1]);
    }
}
