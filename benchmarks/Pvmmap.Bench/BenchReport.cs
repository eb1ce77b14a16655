namespace Pvmmap.Bench;

/// <summary>All that one benchmark found.</summary>
internal sealed record BenchReport(
    string Name, string Description, DateOnly Date, MachineDescription Machine, IReadOnlyList<Series> Series, IReadOnlyList<Finding> Findings,
    IReadOnlyList<string> Notes);

/// <summary>One way of doing something to some data, timed over and over, from when to when <c>Measured</c> says.</summary>
internal sealed record Series(string Data, string Way, string Measured, Spread Time);
