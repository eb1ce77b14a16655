using System.Diagnostics;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>
/// Puts something of the machine back when it is disposed, and just the same when this process is killed before that: a shell in a session of
/// its own waits for the end of its stdin.
/// </summary>
internal sealed class Restoration : IDisposable
{
    private readonly Process _shell;
    private readonly string _script;

    public Restoration(string script)
    {
        _script = script;
        _shell = Process.Start(new ProcessStartInfo("setsid", ["sh", "-c", $"trap '' INT TERM HUP PIPE; cat; {script}"])
        {
            RedirectStandardInput = true, RedirectStandardError = true,
        })!;
    }

    /// <exception cref="InvalidOperationException">It could not be put back.</exception>
    public void Dispose()
    {
        _shell.StandardInput.Close();
        string errors = _shell.StandardError.ReadToEnd();
        _shell.WaitForExit();
        int code = _shell.ExitCode;
        _shell.Dispose();
        if (code != 0) throw new InvalidOperationException($"{_script} failed with {code}: {errors}");
    }
}
