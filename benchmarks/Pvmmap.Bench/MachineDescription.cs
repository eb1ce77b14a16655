using System.Runtime.InteropServices;
using Pvmmap.Cli;

namespace Pvmmap.Bench;

/// <summary>Where something was measured. Memory in bytes.</summary>
internal sealed record MachineDescription(string Kernel, string Processor, int Cores, bool IsVirtual, ulong Memory, string HugePages)
{
    private const string HugePagesSetting = "/sys/kernel/mm/transparent_hugepage/enabled";

    public override string ToString() =>
        $"Linux {Kernel}, {Processor}, {Cores} cores{(IsVirtual ? " (virtual)" : "")}, {Figures.Bytes(Memory)}, transparent huge pages: {HugePages}";

    public static MachineDescription Here()
    {
        Dictionary<string, string> processor = [];
        foreach (string line in File.ReadLines("/proc/cpuinfo").TakeWhile(line => line.Length > 0))
        {
            if (line.Split(':', 2, StringSplitOptions.TrimEntries) is [var key, var value]) processor[key] = value;
        }

        return new MachineDescription(
            File.ReadAllText("/proc/sys/kernel/osrelease").Trim(),
            processor.GetValueOrDefault("model name", RuntimeInformation.ProcessArchitecture.ToString()),
            Environment.ProcessorCount,
            processor.GetValueOrDefault("flags", "").Split(' ').Contains("hypervisor"),
            MemoryInfo.Read("MemTotal"),
            HugePagesHere());
    }

    // "always [madvise] never"
    private static string HugePagesHere() => File.Exists(HugePagesSetting) ? File.ReadAllText(HugePagesSetting).Split('[', ']')[1] : "none";
}
