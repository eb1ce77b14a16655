using System.CommandLine.Parsing;
using System.Globalization;

namespace Pvmmap.Cli;

/// <summary>From one word of the command line to a value, or an error that says what to write instead.</summary>
internal static class ValueParsers
{
    private delegate bool TryParse<T>(string text, out T value, out string? error);

    public static int Pid(ArgumentResult result) => Value<int>(result, TryParsePid);

    public static ulong Address(ArgumentResult result) => Value<ulong>(result, AddressSyntax.TryParseAddress);

    public static ulong Size(ArgumentResult result) => Value<ulong>(result, AddressSyntax.TryParseSize);

    public static AddressRange Range(ArgumentResult result) => Value<AddressRange>(result, AddressSyntax.TryParseRange);

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
