using System.CommandLine;

namespace Pvmmap.Cli;

/// <summary>Options that several commands have.</summary>
internal static class CommonOptions
{
    public static Option<ulong?> MaximumShared() => new("--max-shared")
    {
        Description = "Bytes of shared memory up to which it is copied, while the process stands still; more is an error. 1G if not given.",
        HelpName = "SIZE",
        CustomParser = result => ValueParsers.Size(result),
    };

    public static Option<bool> Json() =>
        new("--json") { Description = "Print JSON: addresses as hexadecimal strings, amounts in bytes, times in microseconds." };
}
