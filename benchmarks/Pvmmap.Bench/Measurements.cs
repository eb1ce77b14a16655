namespace Pvmmap.Bench;

/// <summary>What was timed and counted of one piece of data, in the order in which it first came.</summary>
/// <param name="data">Its name.</param>
/// <param name="size">Its bytes, where a chart has them on an axis.</param>
internal sealed class Measurements(string data, ulong? size = null)
{
    private readonly List<(string Way, string Measured, List<TimeSpan> Times)> _times = [];
    private readonly List<(string Way, string Measured, FigureUnit Unit, List<double> Values)> _amounts = [];

    private readonly Dictionary<string, List<double>> _ratios = [];

    /// <summary>False in a round that warms up.</summary>
    public bool Counted { get; set; }

    public IEnumerable<Series> Series => _times.Select(one => new Series(data, one.Way, one.Measured, Spread.Of(one.Times), size));

    public IEnumerable<Amount> Amounts => _amounts.Select(one => new Amount(data, one.Way, one.Measured, one.Unit, Spread.Of(one.Values), size));

    public void Add(string way, string measured, TimeSpan time)
    {
        if (!Counted) return;
        List<TimeSpan>? times = _times.Find(one => (one.Way, one.Measured) == (way, measured)).Times;
        if (times is null) _times.Add((way, measured, times = []));
        times.Add(time);
    }

    public void Add(string way, string access, Latency latency)
    {
        Add(way, $"{access}, p50", TimeSpan.FromMicroseconds(latency.P50 / 1000.0));
        Add(way, $"{access}, p99", TimeSpan.FromMicroseconds(latency.P99 / 1000.0));
        Add(way, $"{access}, p99.9", TimeSpan.FromMicroseconds(latency.P999 / 1000.0));
    }

    public void Add(string way, string measured, FigureUnit unit, double value)
    {
        if (!Counted) return;
        List<double>? values = _amounts.Find(one => (one.Way, one.Measured) == (way, measured)).Values;
        if (values is null) _amounts.Add((way, measured, unit, values = []));
        values.Add(value);
    }

    /// <summary>
    /// What was measured beside what was measured right before it. On a machine whose memory is quick in one second and slow in the next, half of the times are of the one kind and half of the
    /// other: a median of them, divided by another one, says in which seconds either was measured most.
    /// </summary>
    public void AddRatio(string what, double ratio)
    {
        if (!Counted) return;
        if (!_ratios.TryGetValue(what, out List<double>? ratios)) _ratios.Add(what, ratios = []);
        ratios.Add(ratio);
    }

    /// <summary>The median.</summary>
    public double? RatioOrNull(string what) => _ratios.TryGetValue(what, out List<double>? ratios) ? Spread.Of(ratios).P50 : null;

    /// <summary>Microseconds, or what was counted.</summary>
    public double Median(string way, string measured) => MedianOrNull(way, measured) ?? throw new InvalidOperationException($"{way}, {measured} was not measured");

    public double? MedianOrNull(string way, string measured) =>
        _times.Find(one => (one.Way, one.Measured) == (way, measured)).Times is { } times ? Spread.Of(times).P50
        : _amounts.Find(one => (one.Way, one.Measured) == (way, measured)).Values is { } values ? Spread.Of(values).P50
        : null;

    public double Most(string way, string measured) => _amounts.Find(one => (one.Way, one.Measured) == (way, measured)).Values.Max();
}
