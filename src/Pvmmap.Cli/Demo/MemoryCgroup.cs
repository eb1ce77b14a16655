using System.Diagnostics;
using System.Globalization;

namespace Pvmmap.Cli.Demo;

/// <summary>A memory cgroup of its own: the kernel counts every page that is charged to it, a holder's too, and keeps the peak.</summary>
internal sealed class MemoryCgroup : MemoryGauge
{
    private const string V1Mount = "/sys/fs/cgroup/memory";
    private const string V2Mount = "/sys/fs/cgroup";

    private readonly string _path;
    private readonly string _peakFile;

    private MemoryCgroup(string path, string peakFile) => (_path, _peakFile) = (path, peakFile);

    public override string Method => $"the kernel's own count ({_peakFile} of a memory cgroup that holds both)";

    public override ulong Peak => ulong.Parse(File.ReadAllText(Path.Combine(_path, _peakFile)).Trim(), CultureInfo.InvariantCulture);

    /// <param name="purpose">Part of its name, which nobody else's has.</param>
    /// <returns>null where no cgroup can be made: not root, or the memory controller is not ours to use.</returns>
    public static MemoryCgroup? TryCreate(string purpose)
    {
        string name = string.Create(CultureInfo.InvariantCulture, $"pvmmap-{purpose}-{Environment.ProcessId}-{Stopwatch.GetTimestamp():x}");
        // v1 where it is mounted. On v2 a group that has processes can have no children of its own, so the new one goes below the root.
        return TryCreate(V1Mount + OwnV1Path(), name, "memory.max_usage_in_bytes") ?? TryCreate(V1Mount, name, "memory.max_usage_in_bytes")
            ?? TryCreate(V2Mount, name, "memory.peak");
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
