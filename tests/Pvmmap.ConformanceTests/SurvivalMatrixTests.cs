using System.Collections.Concurrent;
using System.Globalization;
using Pvmmap.ConformanceTests.Stage;
using Pvmmap.ConformanceTests.Survival;

namespace Pvmmap.ConformanceTests;

/// <summary>
/// Whoever is killed at whatever step of a call or a fill: docs/survival.md. ./test --full plays every cell and writes that file, a plain ./test
/// plays some. PVMMAP_SURVIVAL_SEED chooses which, PVMMAP_SURVIVAL_CELL plays those whose name contains it.
/// </summary>
public sealed class SurvivalMatrixTests(Theatre theatre)
{
    private const int SampleSize = 300;

    /// <summary>Most of a cell's time is waiting.</summary>
    private const int AtOnce = 3;

    [Fact]
    public void Whoever_is_killed_at_whatever_step_nothing_is_lost_silently()
    {
        Machine.RequireRoot();
        Machine.RequireProgram("unshare");
        bool full = Environment.GetEnvironmentVariable("PVMMAP_TEST_FULL") == "1";
        IReadOnlyList<Cell> all = Cell.All();
        Cell[] cells = [.. full ? all : Sample(all)];
        var outcomes = new ConcurrentDictionary<Cell, string>();
        var bad = new ConcurrentBag<string>();
        Parallel.ForEach(Partitioner.Create(cells, EnumerablePartitionerOptions.NoBuffering), new ParallelOptions { MaxDegreeOfParallelism = AtOnce }, cell =>
        {
            using CellRun run = new(theatre, cell);
            string word = outcomes[cell] = run.Play();
            if (word.StartsWith(Outcome.Bad, StringComparison.Ordinal)) bad.Add($"{run.Reproduction}\n  {word}");
        });
        if (full) SurvivalDocument.Write(Path.Combine(Theatre.RepositoryRoot, "docs/survival.md"), outcomes);
        Assert.True(bad.IsEmpty, $"{bad.Count} of {cells.Length} cells:\n{string.Join('\n', bad)}");
    }

    private static IEnumerable<Cell> Sample(IReadOnlyList<Cell> all)
    {
        if (Environment.GetEnvironmentVariable("PVMMAP_SURVIVAL_CELL") is { Length: > 0 } name)
            return all.Where(cell => cell.ToString().Contains(name, StringComparison.Ordinal));
        int seed = Environment.GetEnvironmentVariable("PVMMAP_SURVIVAL_SEED") is { Length: > 0 } given
            ? int.Parse(given, CultureInfo.InvariantCulture) : Random.Shared.Next();
        TestContext.Current.SendDiagnosticMessage("PVMMAP_SURVIVAL_SEED={0}", seed);
        TestContext.Current.TestOutputHelper?.WriteLine($"PVMMAP_SURVIVAL_SEED={seed}");
        var random = new Random(seed);
        Cell[] shuffled = [.. all];
        random.Shuffle(shuffled);
        return shuffled.Take(SampleSize);
    }
}
