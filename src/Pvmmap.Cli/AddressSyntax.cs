using System.Diagnostics.CodeAnalysis;
using System.Globalization;

namespace Pvmmap.Cli;

/// <summary>
/// How addresses, sizes and ranges are written on the command line. An address is decimal, or hexadecimal after 0x. Only a range copied
/// from /proc/PID/maps may leave the 0x out, and only with eight digits or more on both sides, as the kernel prints them.
/// </summary>
internal static class AddressSyntax
{
    /// <summary>For --help: every form that is accepted.</summary>
    public const string Forms =
        "START-END as /proc/PID/maps prints it (7f3c10000000-7f3c14000000) or with 0x on both sides, or START+LENGTH (0x7f3c10000000+64M)";

    private const int MapsDigits = 8; // "%08lx" in the kernel's show_vma_header_prefix()

    /// <summary>Reads an address: <c>0x7f3c10000000</c> or <c>139896223072256</c>.</summary>
    public static bool TryParseAddress(string text, out ulong address, [NotNullWhen(false)] out string? error)
    {
        if (TryParseNumber(text, out address))
        {
            error = null;
            return true;
        }

        error = text.Length > 0 && text.All(char.IsAsciiHexDigit) && !text.All(char.IsAsciiDigit)
            ? $"'{text}' is not decimal; write 0x{text} if it is hexadecimal"
            : $"'{text}' is not an address; write hexadecimal with 0x, or decimal";
        return false;
    }

    /// <summary>Reads a size in bytes: a number, or decimal with K, M or G (1024, 1024², 1024³ bytes). Zero is refused.</summary>
    public static bool TryParseSize(string text, out ulong bytes, [NotNullWhen(false)] out string? error)
    {
        int shift = text.Length == 0 ? 0 : char.ToUpperInvariant(text[^1]) switch { 'K' => 10, 'M' => 20, 'G' => 30, _ => 0 };
        ulong count;
        bool isNumber = shift == 0
            ? TryParseNumber(text, out count)
            : ulong.TryParse(text.AsSpan(0, text.Length - 1), NumberStyles.None, CultureInfo.InvariantCulture, out count);
        bytes = isNumber && count <= ulong.MaxValue >> shift ? count << shift : 0;
        error = bytes != 0 ? null
            : isNumber && count == 0 ? $"the size '{text}' is zero; give at least 1 byte"
            : isNumber ? $"the size '{text}' does not fit in 64 bits; give a smaller one"
            : $"'{text}' is not a size; write bytes (4096, 0x1000) or a whole number with K, M or G (64M)";
        return error is null;
    }

    /// <summary>Reads a range in one of the <see cref="Forms"/>.</summary>
    public static bool TryParseRange(string text, out AddressRange range, [NotNullWhen(false)] out string? error)
    {
        range = default;
        int separator = text.IndexOfAny(['-', '+']);
        if (separator <= 0 || separator == text.Length - 1)
        {
            error = $"'{text}' is not a range; write {Forms}";
            return false;
        }

        string left = text[..separator], right = text[(separator + 1)..];
        if (text[separator] == '+')
        {
            if (!TryParseAddress(left, out ulong first, out error) || !TryParseSize(right, out ulong length, out error)) return false;
            if (length - 1 > ulong.MaxValue - first)
            {
                error = $"the range '{text}' passes the end of the address space; give a smaller length";
                return false;
            }

            range = new AddressRange(first, length);
            return true;
        }

        if (!TryParseBounds(left, right, out ulong start, out ulong end))
        {
            error = $"'{text}' is not a range; write START-END as /proc/PID/maps prints it ({MapsDigits} hexadecimal digits or more on both sides), "
                + "or with 0x on both sides";
            return false;
        }

        if (end <= start)
        {
            error = $"the range '{text}' ends before it starts; write the lower address first";
            return false;
        }

        range = new AddressRange(start, end - start);
        error = null;
        return true;
    }

    private static bool TryParseBounds(string left, string right, out ulong start, out ulong end)
    {
        end = 0;
        if (IsMapsNumber(left) && IsMapsNumber(right)) return TryParseHex(left, out start) && TryParseHex(right, out end);
        start = 0;
        return HasHexPrefix(left) && HasHexPrefix(right) && TryParseNumber(left, out start) && TryParseNumber(right, out end);
    }

    private static bool TryParseNumber(string text, out ulong value) => HasHexPrefix(text)
        ? TryParseHex(text.AsSpan(2), out value)
        : ulong.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out value);

    private static bool TryParseHex(ReadOnlySpan<char> digits, out ulong value) =>
        ulong.TryParse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out value);

    private static bool HasHexPrefix(string text) => text.StartsWith("0x", StringComparison.OrdinalIgnoreCase);

    private static bool IsMapsNumber(string text) => text.Length >= MapsDigits && text.All(char.IsAsciiHexDigit);
}
