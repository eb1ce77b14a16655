using System.Globalization;

namespace Pvmmap.Bench;

/// <summary>What the whole machine reads from swap and writes to it.</summary>
internal static class SwapTraffic
{
    /// <summary>Pages read in since the machine started: pswpin of /proc/vmstat.</summary>
    public static ulong PagesIn() => Read("pswpin ");

    /// <summary>Pages written out since the machine started: pswpout of /proc/vmstat.</summary>
    public static ulong PagesOut() => Read("pswpout ");

    private static ulong Read(string name) => ulong.Parse(
        File.ReadLines("/proc/vmstat").First(line => line.StartsWith(name, StringComparison.Ordinal)).AsSpan(name.Length), CultureInfo.InvariantCulture);
}
