using System.Text.Json.Serialization;

namespace Pvmmap.Bench;

/// <summary>All that one benchmark found.</summary>
internal sealed record BenchReport(
    string Name, string Description, DateOnly Date, MachineDescription Machine, IReadOnlyList<Series> Series, IReadOnlyList<Finding> Findings,
    IReadOnlyList<string> Notes, IReadOnlyList<Amount>? Amounts = null);

/// <summary>One way of doing something to some data, timed over and over, from when to when <c>Measured</c> says.</summary>
/// <param name="Data">Its name.</param>
/// <param name="Way">What was done to it.</param>
/// <param name="Measured">What of that.</param>
/// <param name="Time">In microseconds.</param>
/// <param name="Size">Bytes of the data, where a chart has them on an axis.</param>
internal sealed record Series(
    string Data, string Way, string Measured, Spread Time, [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] ulong? Size = null);

/// <summary>What one way of doing something to some data took of something other than time, over and over.</summary>
/// <param name="Data">Its name.</param>
/// <param name="Way">What was done to it.</param>
/// <param name="Measured">What was counted.</param>
/// <param name="Unit">What of.</param>
/// <param name="Value">In that unit.</param>
/// <param name="Size">Bytes of the data, where a chart has them on an axis.</param>
internal sealed record Amount(
    string Data, string Way, string Measured, FigureUnit Unit, Spread Value, [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] ulong? Size = null);
