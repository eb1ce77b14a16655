using System.Diagnostics;
using System.Globalization;
using System.Net.Sockets;
using System.Text;

namespace Pvmmap.Bench;

/// <summary>Debian's redis-server on a Unix socket in a folder of its own, and redis-benchmark as its load.</summary>
internal sealed class RedisServer : IDisposable
{
    private const string Server = "redis-server", Client = "redis-benchmark";
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(20);

    private readonly string _folder = Directory.CreateTempSubdirectory("pvmmap-bench-").FullName;
    private readonly Process _process;
    private readonly Socket _socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly StreamReader _answers;

    public RedisServer()
    {
        _process = Start(Server, "--port", "0", "--unixsocket", Door, "--save", "", "--dir", _folder, "--enable-debug-command", "yes", "--daemonize", "no");
        var clock = Stopwatch.StartNew();
        while (!TryConnect())
        {
            if (_process.HasExited || clock.Elapsed > s_patience) throw new IOException($"bench: {Server} does not come up; run it by hand to see why");
            Thread.Sleep(20);
        }
        _answers = new StreamReader(new NetworkStream(_socket), Encoding.ASCII);
    }

    public static bool IsInstalled => new[] { Server, Client }.All(name =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Any(folder => File.Exists(Path.Combine(folder, name))));

    public int Pid => _process.Id;

    /// <summary>Requests answered since it was started, this question among them.</summary>
    public long Requests
    {
        get
        {
            const string key = "total_commands_processed:";
            Send($"INFO stats");
            char[] text = new char[int.Parse(Line().AsSpan(1), CultureInfo.InvariantCulture)];
            _answers.ReadBlock(text);
            Line();
            string line = new string(text).Split("\r\n").First(line => line.StartsWith(key, StringComparison.Ordinal));
            return long.Parse(line.AsSpan(key.Length), CultureInfo.InvariantCulture);
        }
    }

    private string Door => Path.Combine(_folder, "socket");

    /// <summary>Keys that nobody asks for.</summary>
    /// <param name="keys">How many.</param>
    /// <param name="bytes">Length of each value.</param>
    public void Populate(int keys, int bytes)
    {
        Send($"DEBUG POPULATE {keys} ballast {bytes}");
        if (Line() is not "+OK" and var answer) throw new IOException($"bench: {Server}: {answer}");
    }

    /// <summary>SET of random keys, until the process is killed.</summary>
    public Process StartLoad(int clients, int keys, int bytes) => Start(Client, "-s", Door, "-q", "-n", Text(int.MaxValue), "-c", Text(clients), "-r", Text(keys), "-d", Text(bytes), "-t", "set");

    public void Dispose()
    {
        _answers.Dispose();
        _socket.Dispose();
        _process.Kill();
        _process.WaitForExit();
        _process.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private static Process Start(string command, params string[] arguments)
    {
        // What they have to say is of no interest, and must not fill a pipe.
        var start = new ProcessStartInfo("sh", ["-c", "exec \"$0\" \"$@\" > /dev/null 2>&1", command, .. arguments]);
        return Process.Start(start)!;
    }

    private bool TryConnect()
    {
        try
        {
            _socket.Connect(new UnixDomainSocketEndPoint(Door));
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    private void Send(FormattableString line) => _socket.Send(Encoding.ASCII.GetBytes(line.ToString(CultureInfo.InvariantCulture) + "\r\n"));

    private string Line() => _answers.ReadLine() ?? throw new IOException($"bench: {Server} has ended");

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}
