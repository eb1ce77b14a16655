using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net.Sockets;
using System.Reflection;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>Made once per run: compiles programs/*.c, starts the nursery, and takes the connections of the programs that it starts.</summary>
public sealed class Theatre : IDisposable
{
    /// <summary>A folder of programs that are compiled already: to compile is slow on an emulated machine.</summary>
    public const string Compiled = "PVMMAP_TEST_PROGRAMS";

    private readonly string _folder = Directory.CreateTempSubdirectory("pvmmap-conformance-").FullName;
    private readonly Socket _door = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly ConcurrentDictionary<int, BlockingCollection<Line>> _arrived = [];
    private readonly ConcurrentDictionary<int, byte> _everybody = [];

    public Theatre()
    {
        // Programs under another uid come in here too.
        File.SetUnixFileMode(_folder, (UnixFileMode)Convert.ToInt32("755", 8));
        foreach (string program in (string[])["puppet", "nursery", "threads", "children", "tracer", "confine"]) Compile(program, "-pthread");
        _door.Bind(new UnixDomainSocketEndPoint(Door));
        File.SetUnixFileMode(Door, (UnixFileMode)Convert.ToInt32("777", 8));
        _door.Listen(64);
        new Thread(Admit) { IsBackground = true, Name = "door" }.Start();
        Nursery = new Nursery(Program("nursery"));
        _everybody[Environment.ProcessId] = _everybody[Nursery.Pid] = 0;
    }

    public Nursery Nursery { get; }

    public static string RepositoryRoot => Metadata("RepositoryRoot");

    public static string DotnetApp => Metadata("DotnetApp");

    public static string HeapApp => Metadata("HeapApp");

    /// <summary>examples/HashTableSave, built.</summary>
    public static string HashTableSave => Metadata("HashTableSave");

    /// <summary>The C library under test, where the build puts it.</summary>
    public static string Library => Path.Combine(RepositoryRoot, "artifacts/lib/libprocess_vm_mmap.so");

    /// <summary>The Unix socket that programs connect to.</summary>
    public string Door => Path.Combine(_folder, "door");

    /// <summary>What the programs wrote to stdout and stderr.</summary>
    public string Log => Path.Combine(_folder, "log");

    /// <summary>Processes that took part in this run, dead ones included.</summary>
    public IReadOnlySet<int> Everybody => _everybody.Keys.ToHashSet();

    /// <summary>True of a process that runs one of the programs, or has been forked from one that does; whoever its parent is by now.</summary>
    public bool IsFromHere(int pid) => new FileInfo($"/proc/{pid}/exe").LinkTarget is { } program && (program == Environment.ProcessPath || program.StartsWith(_folder, StringComparison.Ordinal));

    public string Program(string name) => Path.Combine(_folder, name);

    public string NewFolder(string name) => Directory.CreateDirectory(Path.Combine(_folder, name)).FullName;

    /// <summary>Compiles programs/NAME.c as any user would, with every warning an error; a program that is in the folder of <see cref="Compiled"/> is taken from there.</summary>
    public void Compile(string name, params IEnumerable<string> options)
    {
        if (Environment.GetEnvironmentVariable(Compiled) is { Length: > 0 } folder && File.Exists(Path.Combine(folder, name)))
        {
            File.Copy(Path.Combine(folder, name), Program(name));
            return;
        }
        string source = Path.Combine(RepositoryRoot, "tests/programs", name + ".c");
        (int code, string output) = Run("gcc", ["-O2", "-Wall", "-Werror", source, "-o", Program(name), .. options, "-ldl"]);
        if (code != 0) throw new InvalidOperationException($"gcc {source}:\n{output}");
    }

    /// <summary>Runs a command to its end.</summary>
    public static (int Code, string Output) Run(string command, params IEnumerable<string> arguments)
    {
        var start = new ProcessStartInfo(command, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        using Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output + errors.GetAwaiter().GetResult());
    }

    /// <summary>Starts a program that is not this process's child and does not connect.</summary>
    public int Start(params IEnumerable<string> command)
    {
        int pid = Nursery.Start(Log, command);
        _everybody[pid] = 0;
        return pid;
    }

    /// <summary>The next connection that process makes.</summary>
    public Line Await(int pid)
    {
        _everybody[pid] = 0;
        while (Arrivals(pid).TryTake(out Line? line, Patience.Of(20)))
        {
            // the number may have been another's, whom nobody has awaited
            if (!line.HasEnded) return line;
            line.Dispose();
        }
        throw new InvalidOperationException($"process {pid} did not connect; log:\n{(File.Exists(Log) ? File.ReadAllText(Log) : "")}");
    }

    public void Dispose()
    {
        _door.Dispose();
        Nursery.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private static string Metadata(string key) =>
        typeof(Theatre).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == key).Value!;

    private BlockingCollection<Line> Arrivals(int pid) => _arrived.GetOrAdd(pid, _ => []);

    /// <summary>As it is known here: in a pid namespace of its own a program knows itself by another number.</summary>
    private static int PeerOf(Socket socket)
    {
        const int SOL_SOCKET = 1, SO_PEERCRED = 17;
        byte[] credentials = new byte[12]; // struct ucred: pid, uid, gid
        socket.GetRawSocketOption(SOL_SOCKET, SO_PEERCRED, credentials);
        return BitConverter.ToInt32(credentials);
    }

    private void Admit()
    {
        try
        {
            for (; ; )
            {
                Socket socket = _door.Accept();
                int pid = PeerOf(socket);
                var line = new Line(socket);
                line.Hear();
                Arrivals(pid).Add(line);
            }
        }
        catch (SocketException)
        {
            // the theatre closes
        }
    }
}
