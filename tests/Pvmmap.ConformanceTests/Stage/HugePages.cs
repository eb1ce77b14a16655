using System.Globalization;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>Some more pages of 2 MiB in the machine's pool, until it is disposed.</summary>
internal sealed class HugePages : IDisposable
{
    public const ulong Size = 2 << 20;
    private const string Pool = "/proc/sys/vm/nr_hugepages";

    private readonly Restoration _former;

    public HugePages(int more)
    {
        Machine.RequireRoot();
        int before = Count();
        // Less what was added: another run may have added to it, or given back, meanwhile.
        _former = new Restoration($"n=$(($(cat {Pool}) - {more})); [ $n -ge 0 ] || n=0; echo $n > {Pool}");
        File.WriteAllText(Pool, (before + more).ToString(CultureInfo.InvariantCulture));
        if (Count() >= before + more) return;
        _former.Dispose();
        Machine.Require(false, $"needs {more} free huge pages of 2 MiB");
    }

    public void Dispose() => _former.Dispose();

    private static int Count() => int.Parse(File.ReadAllText(Pool), CultureInfo.InvariantCulture);
}
