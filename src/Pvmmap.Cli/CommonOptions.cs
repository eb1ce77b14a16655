using System.CommandLine;

namespace Pvmmap.Cli;

/// <summary>Options that several commands have.</summary>
internal static class CommonOptions
{
    public static Option<bool> Json() =>
        new("--json") { Description = "Print JSON: addresses as hexadecimal strings, amounts in bytes, times in microseconds." };
}
