using System.CommandLine.Parsing;
using System.Globalization;
using Pvmmap.Snapshots;

namespace Pvmmap.Cli;

/// <summary>From one word of the command line to a value, or an error that says what to write instead.</summary>
internal static class ValueParsers
{
    private delegate bool TryParse<T>(string text, out T value, out string? error);

    public static int Pid(ArgumentResult result) => Value<int>(result, TryParsePid);

    public static ulong Address(ArgumentResult result) => Value<ulong>(result, AddressSyntax.TryParseAddress);

    public static ulong Size(ArgumentResult result) => Value<ulong>(result, AddressSyntax.TryParseSize);

    public static AddressRange Range(ArgumentResult result) => Value<AddressRange>(result, AddressSyntax.TryParseRange);

    /// <summary>All that were given.</summary>
    public static AddressRange[] Ranges(ArgumentResult result)
    {
        var ranges = new List<AddressRange>();
        foreach (Token token in result.Tokens)
        {
            if (AddressSyntax.TryParseRange(token.Value, out AddressRange range, out string? error)) ranges.Add(range);
            else result.AddError($"{Name(result)}: {error}");
        }
        return [.. ranges];
    }

    public static CoreFilter Filter(ArgumentResult result) => Value<CoreFilter>(result, TryParseFilter);

    private static bool TryParseFilter(string text, out CoreFilter filter, out string? error)
    {
        bool valid = AddressSyntax.TryParseAddress(text, out ulong bits, out _) && bits <= (ulong)CoreFilter.All;
        filter = valid ? (CoreFilter)bits : CoreFilter.None;
        error = valid ? null : $"'{text}' is not a filter; write 0x0 to 0x1ff, the bits of core(5)";
        return valid;
    }

    private static bool TryParsePid(string text, out int pid, out string? error)
    {
        bool valid = int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out pid) && pid > 0;
        error = valid ? null : $"'{text}' is not a process id; write a positive decimal number";
        return valid;
    }

    private static T Value<T>(ArgumentResult result, TryParse<T> parse)
    {
        if (parse(result.Tokens[0].Value, out T value, out string? error)) return value;
        result.AddError($"{Name(result)}: {error}");
        return value;
    }

    private static string Name(ArgumentResult result) => result.Parent is OptionResult option ? option.Option.Name : result.Argument.Name;
}
