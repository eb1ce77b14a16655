using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>Starts programs through programs/nursery.c, so that they are nobody's .NET children and are reaped at once.</summary>
public sealed class Nursery : IDisposable
{
    private readonly Process _process;
    private readonly BlockingCollection<int> _started = [];
    private readonly ConcurrentDictionary<int, int> _ended = [];
    private readonly Lock _starting = new();

    public Nursery(string program)
    {
        _process = Process.Start(new ProcessStartInfo(program) { RedirectStandardInput = true, RedirectStandardOutput = true })!;
        new Thread(Listen) { IsBackground = true, Name = "nursery" }.Start();
    }

    public int Pid => _process.Id;

    public int Start(string log, params IEnumerable<string> command)
    {
        lock (_starting)
        {
            _process.StandardInput.WriteLine(string.Join("\t", ["start", log, .. command]));
            _process.StandardInput.Flush();
            int pid = _started.Take(TestContext.Current.CancellationToken);
            return pid > 0 ? pid : throw new InvalidOperationException($"cannot start {string.Join(' ', command)}");
        }
    }

    /// <summary>Exit code, negated signal number, or null while it runs.</summary>
    public int? Ended(int pid) => _ended.TryGetValue(pid, out int code) ? code : null;

    public int WaitForEnd(int pid, int seconds = 20)
    {
        Eventually.Holds(() => _ended.ContainsKey(pid), $"process {pid} ends", seconds);
        return _ended[pid];
    }

    public void Dispose()
    {
        _process.StandardInput.Close();
        _process.WaitForExit();
        _process.Dispose();
        _started.Dispose();
    }

    private void Listen()
    {
        while (_process.StandardOutput.ReadLine() is { } line)
        {
            string[] words = line.Split(' ');
            int pid = int.Parse(words[1], CultureInfo.InvariantCulture);
            if (words[0] == "started")
            {
                _ended.TryRemove(pid, out _); // the number may have been another's before
                _started.Add(pid);
            }
            else _ended[pid] = int.Parse(words[2], CultureInfo.InvariantCulture) * (words[0] == "killed" ? -1 : 1);
        }
    }
}
