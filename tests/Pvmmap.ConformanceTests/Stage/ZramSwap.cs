using System.Globalization;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>Swap on a zram device of this test's own; the machine's may be in use.</summary>
internal sealed class ZramSwap : IDisposable
{
    private readonly Restoration _removal;

    public ZramSwap(ulong bytes)
    {
        Machine.RequireZram();
        string number = File.ReadAllText($"{Machine.Zram}/hot_add").Trim(), device = $"/dev/zram{number}", folder = $"/sys/block/zram{number}";
        _removal = new Restoration(
            $"! grep -q '^{device} ' /proc/swaps || swapoff {device} && echo 1 > {folder}/reset && echo {number} > {Machine.Zram}/hot_remove");
        try
        {
            File.WriteAllText($"{folder}/disksize", bytes.ToString(CultureInfo.InvariantCulture));
            Must(Theatre.Run("mkswap", device));
            Must(Theatre.Run("swapon", "-p", "100", device));
        }
        catch
        {
            _removal.Dispose();
            throw;
        }
    }

    public void Dispose() => _removal.Dispose();

    private static void Must((int Code, string Output) end) => Assert.True(end.Code == 0, end.Output);
}
