using Microsoft.Diagnostics.Runtime;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>What the runtime's own createdump writes of a process, as ClrMD reads it: the yardstick for what ClrMD makes of a snapshot.</summary>
internal sealed class RuntimeDump : IDisposable
{
    private readonly string _path;
    private readonly DataTarget _target;

    private RuntimeDump(string path, string runtimeFolder)
    {
        _path = path;
        _target = DataTarget.LoadDump(path);
        Runtime = Assert.Single(_target.ClrVersions).CreateRuntime(Path.Combine(runtimeFolder, "libmscordaccore.so"), ignoreMismatch: true);
    }

    public ClrRuntime Runtime { get; }

    /// <summary>A full dump; the process is as before then.</summary>
    public static RuntimeDump Of(Theatre theatre, int pid)
    {
        string folder = RuntimeFolder(pid), path = theatre.Program($"dump-{pid}");
        (int code, string output) = Theatre.Run(Path.Combine(folder, "createdump"), "--full", "--name", path, $"{pid}");
        Assert.True(code == 0, output);
        return new RuntimeDump(path, folder);
    }

    /// <summary>A core file that is there already; it is deleted with this.</summary>
    public static RuntimeDump Load(string path, int pid) => new(path, RuntimeFolder(pid));

    /// <summary>Where the process has its runtime from.</summary>
    public static string RuntimeFolder(int pid) =>
        Path.GetDirectoryName(File.ReadLines($"/proc/{pid}/maps").First(line => line.EndsWith("/libcoreclr.so", StringComparison.Ordinal)).Split(' ')[^1])!;

    public void Dispose()
    {
        Runtime.Dispose();
        _target.Dispose();
        File.Delete(_path);
    }
}
