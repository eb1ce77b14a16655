using System.Globalization;

namespace Pvmmap.Bench;

/// <summary>What the whole machine reads from swap.</summary>
internal static class SwapTraffic
{
    /// <summary>Pages read in since the machine started: pswpin of /proc/vmstat.</summary>
    public static ulong PagesIn() => ulong.Parse(
        File.ReadLines("/proc/vmstat").First(line => line.StartsWith("pswpin ", StringComparison.Ordinal)).AsSpan(7), CultureInfo.InvariantCulture);
}
