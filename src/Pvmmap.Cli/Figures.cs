using System.Globalization;

namespace Pvmmap.Cli;

/// <summary>Amounts and times for people: three significant digits or so, binary units.</summary>
internal static class Figures
{
    private static readonly string[] s_units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

    public static string Bytes(ulong bytes)
    {
        double amount = bytes;
        int unit = 0;
        // 1023.95 would print as 1024.0: the next unit from there on.
        while (amount >= 1023.95 && unit < s_units.Length - 1)
        {
            amount /= 1024;
            unit++;
        }

        return $"{amount.ToString(amount < 100 ? "0.#" : "0", CultureInfo.InvariantCulture)} {s_units[unit]}";
    }

    public static string Duration(TimeSpan time)
    {
        double microseconds = time.TotalMicroseconds;
        return microseconds switch
        {
            < 999.5 => string.Create(CultureInfo.InvariantCulture, $"{microseconds:0} us"),
            < 99_950 => string.Create(CultureInfo.InvariantCulture, $"{microseconds / 1e3:0.0} ms"),
            < 999_500 => string.Create(CultureInfo.InvariantCulture, $"{microseconds / 1e3:0} ms"),
            < 60e6 => string.Create(CultureInfo.InvariantCulture, $"{microseconds / 1e6:0.00} s"),
            < 3600e6 => string.Create(CultureInfo.InvariantCulture, $"{(int)time.TotalMinutes} min {time.Seconds} s"),
            _ => string.Create(CultureInfo.InvariantCulture, $"{(int)time.TotalHours} h {time.Minutes} min"),
        };
    }

    /// <summary>"4.2" or "18": how many times the larger the smaller is.</summary>
    public static string Ratio(double ratio) => ratio.ToString(ratio < 10 ? "0.00" : "0", CultureInfo.InvariantCulture);

    public static string Percent(ulong part, ulong whole) =>
        whole == 0 ? "100 %" : string.Create(CultureInfo.InvariantCulture, $"{Math.Floor(100.0 * part / whole):0} %");

    public static string Hex(ulong address) => $"0x{address:x}";
}
