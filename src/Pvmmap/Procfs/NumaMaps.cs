using System.Text;

namespace Pvmmap.Procfs;

/// <summary>/proc/PID/numa_maps: the memory policies of a process's VMAs. Where a VMA has none of its own, the file shows that of the task.</summary>
internal static class NumaMaps
{
    private static readonly PageRange s_everything = new(0, ulong.MaxValue);

    // CONFIG_NUMA.
    private static readonly Lazy<bool> s_exists = new(() => File.Exists("/proc/self/numa_maps"));

    /// <exception cref="FormatException">A line is not one that the kernel writes.</exception>
    public static Dictionary<ulong, MemoryPolicy> Parse(ReadOnlySpan<byte> text)
    {
        var lines = new Lines(s_everything);
        lines.Add(text);
        return lines.Policies;
    }

    /// <summary>The policies of the VMAs that begin before the end of <paramref name="within"/>, by their first addresses; those without any are left out.</summary>
    /// <exception cref="PvmmapException">ESRCH or EPERM.</exception>
    public static Dictionary<ulong, MemoryPolicy> Read(int pid, PageRange within) => Read(pid, within, Smaps.Chunk);

    /// <summary>The same for the first VMAs of a process, and hardly a page table of the others is walked.</summary>
    /// <exception cref="PvmmapException">ESRCH or EPERM.</exception>
    public static Dictionary<ulong, MemoryPolicy> ReadFirst(int pid, PageRange within) => Read(pid, within, Smaps.SmallChunk);

    private static Dictionary<ulong, MemoryPolicy> Read(int pid, PageRange within, int chunk)
    {
        var lines = new Lines(within);
        if (s_exists.Value) ProcFile.ReadLines(pid, "numa_maps", chunk, lines);
        return lines.Policies;
    }

    private sealed class Lines(PageRange within) : ILineReader
    {
        public Dictionary<ulong, MemoryPolicy> Policies { get; } = [];

        public bool IsDone { get; private set; }

        public void Add(ReadOnlySpan<byte> text)
        {
            while (!IsDone && ProcText.NextLine(ref text, out ReadOnlySpan<byte> line))
            {
                var fields = new ProcText(line);
                ulong start = fields.Hex();
                fields.SkipBlanks();
                IsDone = start >= within.End;
                if (!IsDone && MemoryPolicy.Parse(Encoding.UTF8.GetString(fields.Rest)) is { } policy) Policies[start] = policy;
            }
        }
    }
}
