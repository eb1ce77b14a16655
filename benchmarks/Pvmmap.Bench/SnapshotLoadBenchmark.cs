using System.Diagnostics;
using System.Globalization;
using Pvmmap.Snapshots;

namespace Pvmmap.Bench;

/// <summary>
/// What snapshots cost a server under load: requests that redis-server answers to redis-benchmark in a second with a snapshot, beside one without, in turns. Its own
/// counter says how many, in the gap between two snapshots and all in all.
/// </summary>
internal sealed class SnapshotLoadBenchmark : IBenchmark
{
    private const int Rounds = 30, Clients = 20, Keys = 100_000, Ballast = 500_000, ValueBytes = 200, Batch = 10_000;
    private const double LeastShare = 0.95;
    private const string Nothing = "no snapshots", Ours = "a snapshot each second";

    // A snapshot is kept for so long; then the server has so long to itself before it is looked at.
    private static readonly TimeSpan s_kept = TimeSpan.FromMilliseconds(100), s_settling = TimeSpan.FromMilliseconds(200), s_window = TimeSpan.FromMilliseconds(700);

    private readonly List<Series> _series = [];
    private readonly List<Finding> _findings = [];
    private readonly List<string> _notes = [];

    public string Name => "snapshot-load";

    public string Description => "requests that redis-server answers with a snapshot each second, beside none";

    public BenchReport Run(Action<string> say, CancellationToken interrupted)
    {
        if (RedisServer.IsInstalled) Measure(say, interrupted);
        else _notes.Add("Not measured: redis-server and redis-benchmark are not on the PATH (Debian: redis-server, redis-tools).");
        return new BenchReport(Name, Description, DateOnly.FromDateTime(DateTime.UtcNow), MachineDescription.Here(), _series, _findings, _notes);
    }

    private void Measure(Action<string> say, CancellationToken interrupted)
    {
        using var redis = new RedisServer();
        say("filling redis-server");
        redis.Populate(Ballast, ValueBytes);
        using Process load = redis.StartLoad(Clients, Keys, ValueBytes);
        List<Cycle> without = [], with = [];
        List<TimeSpan> stops = [];
        try
        {
            // The first round is not counted: keys are made, buffers grow, code is compiled.
            for (int round = 0; round <= Rounds; round++)
            {
                say($"round {round} of {Rounds}");
                // Turn and turn about, so that neither is always the first.
                foreach (bool capture in (bool[])[round % 2 == 0, round % 2 != 0])
                {
                    interrupted.ThrowIfCancellationRequested();
                    Cycle cycle = Take(redis, capture ? stops : null);
                    if (round > 0) (capture ? with : without).Add(cycle);
                }
                if (round == 0) stops.Clear();
            }
            if (load.HasExited) throw new IOException("bench: redis-benchmark has ended before its time");
        }
        finally
        {
            load.Kill();
            load.WaitForExit();
        }

        string data = string.Create(CultureInfo.InvariantCulture, $"SET of {ValueBytes} bytes, {Clients} clients"), measured = string.Create(CultureInfo.InvariantCulture, $"{Batch} requests");
        _series.Add(new Series(data, Nothing, measured, Spread.Of([.. without.Select(cycle => cycle.Between)])));
        _series.Add(new Series(data, Ours, $"{measured}, between snapshots", Spread.Of([.. with.Select(cycle => cycle.Between)])));
        _series.Add(new Series(data, Ours, $"{measured}, all in all", Spread.Of([.. with.Select(cycle => cycle.Whole)])));
        _series.Add(new Series(data, Ours, "StopTime", Spread.Of(stops)));
        _findings.Add(new Finding("throughput between snapshots / without, median of the rounds", Median(without.Zip(with, (a, b) => a.Between / b.Between)), FigureUnit.Times, AtLeast: LeastShare));
        _findings.Add(new Finding("throughput all in all / without, median of the rounds", Median(without.Zip(with, (a, b) => a.Whole / b.Whole)), FigureUnit.Times));
        _notes.Add(string.Create(CultureInfo.InvariantCulture,
            $"Each round has two seconds, one with a snapshot and one without. The snapshot is kept for {s_kept.TotalMilliseconds:0} ms, and {s_settling.TotalMilliseconds:0} ms after its end the {s_window.TotalMilliseconds:0} ms between snapshots begin."));
    }

    /// <summary>A second of load.</summary>
    /// <param name="redis">The server.</param>
    /// <param name="stops">Null for a second without a snapshot; else its stop time is added.</param>
    private static Cycle Take(RedisServer redis, List<TimeSpan>? stops)
    {
        Sample start = Sample.Of(redis);
        if (stops is null)
        {
            Thread.Sleep(s_kept);
        }
        else
        {
            using ProcessSnapshot snapshot = ProcessSnapshot.Capture(redis.Pid);
            stops.Add(snapshot.StopTime);
            Thread.Sleep(s_kept);
        }
        Thread.Sleep(s_settling);
        Sample open = Sample.Of(redis);
        Thread.Sleep(s_window);
        Sample end = Sample.Of(redis);
        return new Cycle(open.To(end), start.To(end));
    }

    private static double Median(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        return (sorted[(sorted.Length - 1) / 2] + sorted[sorted.Length / 2]) / 2;
    }

    /// <summary>Time for <see cref="Batch"/> requests: in the gap, and from the start of the snapshot on.</summary>
    private readonly record struct Cycle(TimeSpan Between, TimeSpan Whole);

    private readonly record struct Sample(long Requests, long Timestamp)
    {
        public static Sample Of(RedisServer redis) => new(redis.Requests, Stopwatch.GetTimestamp());

        public TimeSpan To(Sample later) => later.Requests > Requests
            ? Stopwatch.GetElapsedTime(Timestamp, later.Timestamp) * ((double)Batch / (later.Requests - Requests))
            : throw new IOException("bench: redis-server answers nobody");
    }
}
