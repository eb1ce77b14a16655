using System.Globalization;
using System.Text.Json.Serialization;
using Pvmmap.Cli;

namespace Pvmmap.Bench;

/// <summary>What a figure counts.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<FigureUnit>))]
internal enum FigureUnit
{
    /// <summary>How many times.</summary>
    Times,

    Bytes,

    Pages,

    /// <summary>Page faults, for instance.</summary>
    Count,

    BytesPerSecond,
}

internal static class FigureUnitWords
{
    public static string Text(this FigureUnit unit, double value) => unit switch
    {
        FigureUnit.Bytes => value < 0 ? $"-{Figures.Bytes((ulong)-value)}" : Figures.Bytes((ulong)value),
        FigureUnit.BytesPerSecond => $"{Figures.Bytes((ulong)value)}/s",
        FigureUnit.Times => $"{Figures.Ratio(value)} x",
        _ => value.ToString("0", CultureInfo.InvariantCulture),
    };
}
