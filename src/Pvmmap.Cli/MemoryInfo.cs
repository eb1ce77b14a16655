using System.Globalization;

namespace Pvmmap.Cli;

/// <summary>The machine's memory, from /proc/meminfo.</summary>
internal static class MemoryInfo
{
    /// <returns>Bytes of the line with that name.</returns>
    public static ulong Read(string name) =>
        File.ReadLines("/proc/meminfo").Where(line => line.StartsWith($"{name}:", StringComparison.Ordinal))
            .Select(line => ulong.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) * 1024).First();
}
