using System.Diagnostics;
using System.Globalization;

namespace Pvmmap.Bench;

/// <summary>Swap space of our own in compressed memory, preferred to what the machine has. It is gone again when this is disposed.</summary>
internal sealed class ZramSwap : IDisposable
{
    private const string Control = "/sys/class/zram-control";

    private readonly string _number;
    private bool _isOn;

    private ZramSwap(string number) => _number = number;

    private string Device => $"/dev/zram{_number}";

    /// <returns>null where it cannot be made: not root, or a kernel without zram.</returns>
    public static ZramSwap? TryCreate(ulong bytes)
    {
        if (!Environment.IsPrivilegedProcess || !File.Exists($"{Control}/hot_add")) return null;
        // Reading makes a device and tells its number.
        var swap = new ZramSwap(File.ReadAllText($"{Control}/hot_add").Trim());
        try
        {
            File.WriteAllText($"/sys/block/zram{swap._number}/disksize", bytes.ToString(CultureInfo.InvariantCulture));
            Run("mkswap", swap.Device);
            Run("swapon", "--priority", "32767", swap.Device);
            swap._isOn = true;
            return swap;
        }
        catch
        {
            swap.Dispose();
            throw;
        }
    }

    public void Dispose()
    {
        if (_isOn) Run("swapoff", Device);
        _isOn = false;
        File.WriteAllText($"/sys/block/zram{_number}/reset", "1");
        File.WriteAllText($"{Control}/hot_remove", _number);
    }

    private static void Run(string program, params string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        using Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        if (process.ExitCode != 0) throw new IOException($"bench: {program} {string.Join(' ', arguments)}: {errors.GetAwaiter().GetResult().Trim()}");
    }
}
