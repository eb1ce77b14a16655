using System.Globalization;

namespace Pvmmap.Bench;

/// <summary>What the kernel has counted of a process so far.</summary>
/// <param name="Faults">Page faults, those that read from swap or a file and those that did not: minflt and majflt of /proc/PID/stat.</param>
/// <param name="PageTables">Bytes: VmPTE of /proc/PID/status.</param>
internal readonly record struct ProcessAccounts(ulong Faults, ulong PageTables)
{
    public static ProcessAccounts Of(int pid)
    {
        string stat = File.ReadAllText($"/proc/{pid}/stat");
        // What follows the name, which may have anything in it: state is field 3, minflt 10, majflt 12.
        string[] fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
        string tables = File.ReadLines($"/proc/{pid}/status").First(line => line.StartsWith("VmPTE:", StringComparison.Ordinal));
        return new ProcessAccounts(Number(fields[7]) + Number(fields[9]), Number(tables.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1]) * 1024);

        static ulong Number(string text) => ulong.Parse(text, CultureInfo.InvariantCulture);
    }
}
