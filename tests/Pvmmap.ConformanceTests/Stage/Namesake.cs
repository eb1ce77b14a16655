using Microsoft.Win32.SafeHandles;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>
/// A UTS namespace that only a test's own cast is in, with all that is started or forked from them: whoever is there and not of the cast was left behind by the
/// library, whatever other tests run on the machine.
/// </summary>
internal sealed class Namesake : IDisposable
{
    private readonly string _mark;

    /// <summary>Held open: a number that is free is given to the next one.</summary>
    private readonly SafeFileHandle _held;

    /// <param name="pid">Started by unshare --uts, and past it.</param>
    public Namesake(int pid)
    {
        _held = File.OpenHandle($"/proc/{pid}/ns/uts", FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        _mark = Of(pid)!;
        Assert.NotEqual(Of(Environment.ProcessId), _mark);
    }

    /// <summary>The processes that are there and alive.</summary>
    public IEnumerable<int> Living => ProcessStatus.All().Where(pid => Of(pid) == _mark && ProcessStatus.IsAlive(pid));

    /// <summary>The namespace's name; null if the process is gone, or not to be looked at.</summary>
    public static string? Of(int pid)
    {
        try
        {
            return new FileInfo($"/proc/{pid}/ns/uts").LinkTarget;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    public void Dispose() => _held.Dispose();
}
