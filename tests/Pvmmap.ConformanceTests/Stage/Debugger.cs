using System.Diagnostics;
using System.Globalization;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>gdb, driven through its machine interface (gdb/MI).</summary>
internal sealed class Debugger : IDisposable
{
    private readonly Process _gdb;
    private int _pid;

    public Debugger()
    {
        Machine.RequireProgram("gdb");
        _gdb = Process.Start(new ProcessStartInfo("gdb", ["-nx", "--interpreter=mi2"]) { RedirectStandardInput = true, RedirectStandardOutput = true })!;
        Order("-gdb-set mi-async on");
        Order("-gdb-set auto-solib-add off");
    }

    public int Pid => _gdb.Id;

    /// <summary>
    /// The process stands still from here on. gdb answers as soon as it traces it, and only then forks a child with which it tries what ptrace can do: whoever killed gdb before that
    /// is over, which "*stopped" tells, would leave the child stopped for ever.
    /// </summary>
    public Debugger Attach(int pid)
    {
        Order(string.Create(CultureInfo.InvariantCulture, $"-target-attach {pid}"), until: "*stopped");
        _pid = pid;
        Eventually.Equals('t', () => ProcessStatus.State(pid), $"process {pid} is halted by gdb");
        return this;
    }

    /// <summary>Lets it run, still attached.</summary>
    public void Continue()
    {
        Order("-exec-continue --all");
        Eventually.Holds(() => ProcessStatus.State(_pid) is not 't', $"process {_pid} runs under gdb");
    }

    /// <summary>Halts it again.</summary>
    public void Interrupt()
    {
        Order("-exec-interrupt --all");
        Eventually.Equals('t', () => ProcessStatus.State(_pid), $"process {_pid} is halted by gdb");
    }

    /// <summary>Reads the process's memory as gdb's users do; null where gdb cannot.</summary>
    public byte[]? Read(ulong address, int length)
    {
        string answer = Say(string.Create(CultureInfo.InvariantCulture, $"-data-read-memory-bytes 0x{address:x} {length}"));
        const string before = "contents=\"";
        int at = answer.IndexOf(before, StringComparison.Ordinal) + before.Length;
        return at < before.Length ? null : Convert.FromHexString(answer[at..answer.IndexOf('"', at)]);
    }

    public void Detach()
    {
        Order("-target-detach");
        _pid = 0;
    }

    public void Kill()
    {
        _gdb.Kill();
        _gdb.WaitForExit();
    }

    public void Dispose()
    {
        if (!_gdb.HasExited)
        {
            // gdb lets the process go
            _gdb.StandardInput.Close();
            if (!_gdb.WaitForExit(10_000)) Kill();
        }
        _gdb.Dispose();
    }

    /// <param name="command">In gdb/MI.</param>
    /// <param name="until">Waits for an asynchronous record that begins so, too; null: for none.</param>
    private void Order(string command, string? until = null)
    {
        string result = Say(command, until);
        if (result.StartsWith("^error", StringComparison.Ordinal)) throw new InvalidOperationException($"gdb, {command}: {result}");
    }

    /// <summary>The result record; other asynchronous records and the console's lines are passed over.</summary>
    private string Say(string command, string? until = null)
    {
        _gdb.StandardInput.WriteLine(command);
        string? result = null;
        bool heard = until is null;
        while (_gdb.StandardOutput.ReadLine() is { } line)
        {
            if (line.StartsWith('^')) result = line;
            else heard = heard || line.StartsWith(until!, StringComparison.Ordinal);
            if (result is not null && (heard || result.StartsWith("^error", StringComparison.Ordinal))) return result;
        }
        throw new InvalidOperationException($"gdb ended at {command}");
    }
}
