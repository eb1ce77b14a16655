using System.Diagnostics;
using System.Globalization;

namespace Pvmmap.Cli.Demo;

/// <summary>A memory cgroup of its own: the kernel counts every page that is charged to it, a holder's too, and keeps the peak.</summary>
internal sealed class MemoryCgroup : MemoryGauge
{
    private const string V1Mount = "/sys/fs/cgroup/memory";
    private const string V2Mount = "/sys/fs/cgroup";
    private const string V2Peak = "memory.peak";

    private readonly string _path;
    private readonly string _peakFile;
    private readonly bool _isV2;

    private MemoryCgroup(string path, string peakFile) => (_path, _peakFile, _isV2) = (path, peakFile, peakFile == V2Peak);

    public override string Method => $"the kernel's own count ({_peakFile} of a memory cgroup that holds both)";

    public override ulong Peak => ulong.Parse(File.ReadAllText(Path.Combine(_path, _peakFile)).Trim(), CultureInfo.InvariantCulture);

    /// <summary>Bytes charged to it now.</summary>
    public ulong Usage => Number(_isV2 ? "memory.current" : "memory.usage_in_bytes") ?? 0;

    /// <summary>Bytes, the most that was charged to it and swapped out of it together; null where the kernel keeps no count of that.</summary>
    public ulong? PeakWithSwap => _isV2 ? null : Number("memory.memsw.max_usage_in_bytes");

    /// <summary>Processes in it that the kernel has killed because nothing could be swapped out any more.</summary>
    public ulong OutOfMemoryKills => ulong.Parse(
        File.ReadLines(Path.Combine(_path, _isV2 ? "memory.events" : "memory.oom_control")).First(line => line.StartsWith("oom_kill ", StringComparison.Ordinal)).AsSpan(9),
        CultureInfo.InvariantCulture);

    /// <summary>The most that may be charged to it, in bytes; what goes beyond is swapped out.</summary>
    public void Limit(ulong bytes) => Write(_isV2 ? "memory.max" : "memory.limit_in_bytes", bytes);

    /// <summary>Has the peaks begin anew, at what is charged now.</summary>
    /// <returns>False where the kernel cannot do that.</returns>
    public bool ResetPeak()
    {
        if (_isV2) return false;
        Write(_peakFile, 0);
        if (PeakWithSwap is not null) Write("memory.memsw.max_usage_in_bytes", 0);
        return true;
    }

    /// <param name="purpose">Part of its name, which nobody else's has.</param>
    /// <returns>null where no cgroup can be made: not root, or the memory controller is not ours to use.</returns>
    public static MemoryCgroup? TryCreate(string purpose)
    {
        string name = string.Create(CultureInfo.InvariantCulture, $"pvmmap-{purpose}-{Environment.ProcessId}-{Stopwatch.GetTimestamp():x}");
        // v1 where it is mounted. On v2 a group that has processes can have no children of its own, so the new one goes below the root.
        return TryCreate(V1Mount + OwnV1Path(), name, "memory.max_usage_in_bytes") ?? TryCreate(V1Mount, name, "memory.max_usage_in_bytes")
            ?? TryCreate(V2Mount, name, V2Peak);
    }

    /// <summary>Takes a running process in. What it holds already stays charged to where it was; what it gets from now on is charged here.</summary>
    public void Enter(int pid) => File.WriteAllText(Path.Combine(_path, "cgroup.procs"), pid.ToString(CultureInfo.InvariantCulture));

    public override void Dispose()
    {
        // What is still in there (a guardian on its way out) moves up first: rmdir refuses a group with processes, and nothing may stay behind.
        try
        {
            foreach (string pid in File.ReadAllLines(Path.Combine(_path, "cgroup.procs")))
            {
                File.WriteAllText(Path.Combine(Path.GetDirectoryName(_path)!, "cgroup.procs"), pid);
            }
        }
        catch (IOException)
        {
            // It has exited meanwhile.
        }

        try
        {
            Directory.Delete(_path);
        }
        catch (IOException e)
        {
            Failure.Write($"{_path}: {e.Message}; remove it with rmdir");
        }
    }

    // The shell moves itself and then becomes the program: not a page of it is charged elsewhere.
    protected override void Prepare(ProcessStartInfo start)
    {
        start.ArgumentList.Insert(0, start.FileName);
        start.ArgumentList.Insert(0, Path.Combine(_path, "cgroup.procs"));
        start.ArgumentList.Insert(0, "echo 0 > \"$0\" && exec \"$@\"");
        start.ArgumentList.Insert(0, "-c");
        start.FileName = "/bin/sh";
    }

    private ulong? Number(string file) => Path.Combine(_path, file) is var path && File.Exists(path)
        ? ulong.Parse(File.ReadAllText(path).Trim(), CultureInfo.InvariantCulture) : null;

    private void Write(string file, ulong value) => File.WriteAllText(Path.Combine(_path, file), value.ToString(CultureInfo.InvariantCulture));

    private static MemoryCgroup? TryCreate(string parent, string name, string peakFile)
    {
        string path = Path.Combine(parent, name);
        if (!File.Exists(Path.Combine(parent, "cgroup.procs"))) return null;
        try
        {
            Directory.CreateDirectory(path);
            if (File.Exists(Path.Combine(path, peakFile))) return new MemoryCgroup(path, peakFile);
            Directory.Delete(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Not ours to make; the caller samples instead.
        }

        return null;
    }

    // "4:memory:/some/path"
    private static string OwnV1Path() => File.ReadLines("/proc/self/cgroup").Select(line => line.Split(':', 3))
        .FirstOrDefault(fields => fields is [_, var controllers, _] && controllers.Split(',').Contains("memory"))?[2] ?? "";
}
