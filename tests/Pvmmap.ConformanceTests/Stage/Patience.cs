using System.Globalization;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>How long tests wait for what must come: every limit of theirs is lengthened by the same factor where the machine is slow (an emulated one).</summary>
internal static class Patience
{
    /// <summary>A number, 1 if it is not set.</summary>
    public const string Variable = "PVMMAP_TEST_PATIENCE";

    private static readonly double s_factor = Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } text
        ? double.Parse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture) : 1;

    public static TimeSpan Of(double seconds) => TimeSpan.FromSeconds(seconds * s_factor);
}
