using System.Globalization;

namespace Pvmmap.Cli.Demo;

/// <summary>Adds up the proportional set sizes of the processes, and of the holders that serve them, at short intervals.</summary>
internal sealed class PssSampler : MemoryGauge
{
    private static readonly TimeSpan s_interval = TimeSpan.FromMilliseconds(5);

    private readonly CancellationTokenSource _end = new();
    private readonly List<int> _pids = [];
    private readonly Task _sampling;
    private ulong _peak;

    public PssSampler() => _sampling = Task.Run(SampleAsync);

    public override string Method => "sampled (Pss of both and of the holder, every 5 ms or so); as root a memory cgroup gives the exact figure";

    public override ulong Peak => Volatile.Read(ref _peak);

    public override void Dispose()
    {
        _end.Cancel();
        _sampling.Wait();
        _end.Dispose();
    }

    protected override void Started(int pid)
    {
        lock (_pids) _pids.Add(pid);
    }

    private async Task SampleAsync()
    {
        using var timer = new PeriodicTimer(s_interval);
        try
        {
            do
            {
                int[] pids;
                lock (_pids) pids = [.. _pids];
                IEnumerable<int> holders = Duplication.Running().Where(fill => pids.Contains(fill.TargetPid)).Select(fill => fill.HolderPid);
                ulong sum = 0;
                foreach (int pid in pids.Concat(holders)) sum += Pss(pid);
                if (sum > _peak) Volatile.Write(ref _peak, sum);
            }
            while (await timer.WaitForNextTickAsync(_end.Token).ConfigureAwait(false));
        }
        catch (OperationCanceledException)
        {
            // The end.
        }
    }

    // "Pss:               123 kB"
    private const NumberStyles Blanks = NumberStyles.AllowLeadingWhite | NumberStyles.AllowTrailingWhite;

    private static ulong Pss(int pid)
    {
        try
        {
            string? line = File.ReadLines($"/proc/{pid}/smaps_rollup").FirstOrDefault(l => l.StartsWith("Pss:", StringComparison.Ordinal));
            return line is null ? 0 : ulong.Parse(line.AsSpan(4, line.Length - 7), Blanks, CultureInfo.InvariantCulture) * 1024;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return 0; // It has exited, or a holder may not be looked at.
        }
    }
}
