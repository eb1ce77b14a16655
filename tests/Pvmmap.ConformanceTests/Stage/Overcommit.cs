using System.Globalization;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>Strict accounting, vm.overcommit_memory = 2, until it is disposed.</summary>
internal sealed class Overcommit : IDisposable
{
    private const string Vm = "/proc/sys/vm/";

    private readonly Restoration _former;

    /// <param name="headroom">Bytes that the whole machine may commit beyond what it has committed now.</param>
    public Overcommit(ulong headroom)
    {
        Machine.RequireRoot();
        // of ratio and kbytes the one that is not 0 counts, and writing it clears the other
        string kbytes = Read("overcommit_kbytes"), ratio = Read("overcommit_ratio");
        string former = kbytes == "0" ? $"echo {ratio} > {Vm}overcommit_ratio" : $"echo {kbytes} > {Vm}overcommit_kbytes";
        _former = new Restoration($"echo {Read("overcommit_memory")} > {Vm}overcommit_memory && {former}");
        try
        {
            ulong total = (Committed() + headroom) / 1024 - MemoryInfo("SwapTotal") / 1024;
            File.WriteAllText($"{Vm}overcommit_kbytes", total.ToString(CultureInfo.InvariantCulture));
            File.WriteAllText($"{Vm}overcommit_memory", "2");
        }
        catch
        {
            _former.Dispose();
            throw;
        }
    }

    public void Dispose() => _former.Dispose();

    /// <summary>Bytes that the machine has promised.</summary>
    public static ulong Committed() => MemoryInfo("Committed_AS");

    private static string Read(string name) => File.ReadAllText(Vm + name).Trim();

    private static ulong MemoryInfo(string key) => 1024 * ulong.Parse(
        File.ReadLines("/proc/meminfo").First(line => line.StartsWith($"{key}:", StringComparison.Ordinal))
            .Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture);
}
