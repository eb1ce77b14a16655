using System.Text.Json.Serialization;

namespace Pvmmap.Bench;

/// <summary>A figure, and the bound that it is to keep where there is one. It has no value where it could not be measured.</summary>
internal sealed record Finding(string What, double? Value, FigureUnit Unit, double? AtLeast = null, double? AtMost = null)
{
    /// <summary>null: nothing was measured, or there is no bound.</summary>
    public bool? Met => Value is { } value && (AtLeast ?? AtMost) is not null
        ? value >= (AtLeast ?? double.MinValue) && value <= (AtMost ?? double.MaxValue)
        : null;

    [JsonIgnore]
    public string Measured => Value is { } value ? Unit.Text(value) : "not measured";

    [JsonIgnore]
    public string Wanted => AtLeast is { } least ? $"at least {Unit.Text(least)}" : AtMost is { } most ? $"at most {Unit.Text(most)}" : "";
}
