using System.Globalization;
using Pvmmap.Linux;

namespace Pvmmap.Procfs;

/// <summary>A memory policy, as mbind(2) takes and numa_maps shows it (mpol_to_str() of the kernel's mm/mempolicy.c).</summary>
/// <param name="Mode">MPOL_* with its flags.</param>
/// <param name="Nodes">A list of nodes like 0-1,3; empty where the mode needs none.</param>
internal sealed record MemoryPolicy(uint Mode, string Nodes)
{
    public const uint MPOL_DEFAULT = 0, MPOL_PREFERRED = 1, MPOL_BIND = 2, MPOL_INTERLEAVE = 3, MPOL_LOCAL = 4, MPOL_PREFERRED_MANY = 5;
    // MPOL_WEIGHTED_INTERLEAVE (Linux 6.9).
    public const uint WeightedInterleave = 6;
    // For get_mempolicy().
    private const uint MPOL_F_ADDR = 2;
    public const uint MPOL_F_STATIC_NODES = 1 << 15, MPOL_F_NUMA_BALANCING = 1 << 13;

    // The kernel's own buffer, its final zero included: a longer text is cut off.
    private const int KernelBuffer = 64;

    private static readonly (string Name, uint Mode)[] s_modes =
    [
        ("prefer (many)", MPOL_PREFERRED_MANY), ("prefer", MPOL_PREFERRED), ("bind", MPOL_BIND), ("interleave", MPOL_INTERLEAVE),
        ("weighted interleave", WeightedInterleave), ("local", MPOL_LOCAL),
    ];

    /// <summary>True if the kernel did not show it whole, or shows one that is not known here.</summary>
    public bool IsUnknown => Mode == 0;

    /// <summary>True if the mapping at an address of this process is known to have no policy of its own (get_mempolicy(2)).</summary>
    public static unsafe bool IsDefaultHere(ulong address)
    {
        int mode;
        return !SystemCall.Invoke(SystemCall.SYS_get_mempolicy, (long)&mode, 0, 0, (long)address, MPOL_F_ADDR).Failed && mode == MPOL_DEFAULT;
    }

    /// <summary>From the rest of a line of numa_maps, which begins with it. Null for the default.</summary>
    public static MemoryPolicy? Parse(string line)
    {
        if (Word(line, "default") is not null) return null;
        foreach ((string name, uint mode) in s_modes)
        {
            if (Word(line, name) is not { } rest) continue;
            string nodes = "", flags = "";
            int colon = rest.IndexOf(':', StringComparison.Ordinal);
            if (colon >= 0) (rest, nodes) = (rest[..colon], rest[(colon + 1)..]);
            if (rest.StartsWith('=')) flags = rest[1..];
            if (name.Length + rest.Length + nodes.Length + 1 >= KernelBuffer - 1) break;
            uint all = mode;
            foreach (string flag in flags.Split('|', StringSplitOptions.RemoveEmptyEntries))
            {
                // "relative" is shown with the nodes that it came to mean here: they are carried without it.
                all |= flag switch { "static" => MPOL_F_STATIC_NODES, "balancing" => MPOL_F_NUMA_BALANCING, _ => 0 };
            }
            return new MemoryPolicy(all, nodes);
        }
        return new MemoryPolicy(0, line.Split(' ')[0]);
    }

    /// <summary>The nodes as a mask of the kernel's kind, least significant word first.</summary>
    public ulong[] Mask()
    {
        List<ulong> words = [];
        foreach (string part in Nodes.Split(',', StringSplitOptions.RemoveEmptyEntries))
        {
            string[] ends = part.Split('-');
            int first = int.Parse(ends[0], CultureInfo.InvariantCulture), last = int.Parse(ends[^1], CultureInfo.InvariantCulture);
            while (words.Count <= last / 64) words.Add(0);
            for (int node = first; node <= last; node++) words[node / 64] |= 1UL << (node % 64);
        }
        return [.. words];
    }

    public override string ToString() => Nodes.Length == 0 ? $"mode {Mode:x}" : $"mode {Mode:x}, nodes {Nodes}";

    // The policy's text up to the next field, without the name; null if it has another name.
    private static string? Word(string line, string name)
    {
        if (!line.StartsWith(name, StringComparison.Ordinal)) return null;
        string rest = line[name.Length..];
        if (rest.Length > 0 && rest[0] is not (' ' or '=' or ':')) return null;
        int end = rest.IndexOf(' ', StringComparison.Ordinal);
        return end < 0 ? rest : rest[..end];
    }
}
