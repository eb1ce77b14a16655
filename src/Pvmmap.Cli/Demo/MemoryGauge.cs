using System.Diagnostics;

namespace Pvmmap.Cli.Demo;

/// <summary>
/// Measures the peak memory of processes that start in it: by the kernel's own count in a cgroup where one can be made, else by sampling.
/// </summary>
internal abstract class MemoryGauge : IDisposable
{
    /// <summary>How the figure comes about, for the reader of the table.</summary>
    public abstract string Method { get; }

    /// <summary>Bytes, the most that all processes of the gauge held together at any time so far.</summary>
    public abstract ulong Peak { get; }

    public static MemoryGauge Create() => (MemoryGauge?)MemoryCgroup.TryCreate("demo") ?? new PssSampler();

    /// <summary>Starts a program with its output redirected to us.</summary>
    public Process Start(string program, IEnumerable<string> arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, UseShellExecute = false };
        Prepare(start);
        Process process = Process.Start(start)!;
        Started(process.Id);
        return process;
    }

    public abstract void Dispose();

    protected virtual void Prepare(ProcessStartInfo start)
    {
    }

    protected virtual void Started(int pid)
    {
    }
}
