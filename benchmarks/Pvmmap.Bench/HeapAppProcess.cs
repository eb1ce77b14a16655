using System.Diagnostics;
using System.Globalization;

namespace Pvmmap.Bench;

/// <summary>tests/programs/HeapApp, a .NET program with a heartbeat, seen from the benchmark that started it.</summary>
internal sealed class HeapAppProcess : IDisposable
{
    private readonly Process _process;

    public HeapAppProcess()
    {
        _process = Process.Start(new ProcessStartInfo(Program ?? throw new InvalidOperationException("no --heap-app"))
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
        })!;
        Hear(); // "hello"
    }

    /// <summary>Where it is; null if the benchmarks were not started by ./bench.</summary>
    public static string? Program { get; set; }

    public int Pid => _process.Id;

    /// <summary>The folder of the runtime that it has loaded.</summary>
    public string RuntimeFolder =>
        Path.GetDirectoryName(File.ReadLines($"/proc/{Pid}/maps").First(line => line.EndsWith("/libcoreclr.so", StringComparison.Ordinal)).Split(' ')[^1])!;

    /// <summary>A tree of 2^<paramref name="depth"/> - 1 objects.</summary>
    public void Grow(int depth) => Ask($"graph {depth}");

    /// <summary>Memory of the heap, in arrays of a kilobyte.</summary>
    public void FillHeap(int megabytes) => Ask($"arrays {megabytes}");

    /// <summary>Memory outside the heap, every page of it written.</summary>
    public void FillNative(int megabytes) => Ask($"native {megabytes}");

    /// <summary>A thread does something each millisecond from now on.</summary>
    public void StartHeartbeat() => Ask($"beat");

    /// <summary>The longest time between two beats since this was last asked.</summary>
    public TimeSpan TakeLongestGap() => TimeSpan.FromMicroseconds(double.Parse(Ask($"gap").Split(' ')[1], CultureInfo.InvariantCulture));

    public void Dispose()
    {
        _process.Kill();
        _process.WaitForExit();
        _process.Dispose();
    }

    private string Ask(FormattableString request)
    {
        _process.StandardInput.WriteLine(request.ToString(CultureInfo.InvariantCulture));
        _process.StandardInput.Flush();
        return Hear();
    }

    private string Hear()
    {
        while (_process.StandardOutput.ReadLine() is { } line)
        {
            // a runtime that is told to dump itself has createdump write there too
            if (!line.StartsWith("[createdump]", StringComparison.Ordinal)) return line;
        }

        throw new IOException($"bench: process {Pid} ended; see dmesg (out of memory?)");
    }
}
