using System.Diagnostics;
using System.Globalization;
using Microsoft.Diagnostics.Runtime;
using Pvmmap.Cli;
using Pvmmap.Diagnostics;
using Pvmmap.Snapshots;

namespace Pvmmap.Bench;

/// <summary>
/// For how long a .NET program stands still while its memory is captured: a snapshot beside the full dumps of createdump, gcore and ClrMD, round by round. The
/// program itself takes the time, with a thread that wakes up each millisecond.
/// </summary>
internal sealed class SnapshotBenchmark : IBenchmark
{
    private const int Rounds = 7, HeapMegabytes = 400, NativeMegabytes = 400, TreeDepth = 17;
    private const ulong MiB = 1UL << 20, Needed = 3 * (HeapMegabytes + NativeMegabytes) * MiB;
    private const double TimesShorter = 30;
    private const string Nothing = "nothing", Ours = "ProcessSnapshot.Capture", WithFile = "CoreDump.Write, everything";

    private readonly List<TimeSpan> _stops = [];
    private readonly List<Series> _series = [];
    private readonly List<string> _notes = [];
    private string _dump = "";

    public string Name => "snapshot";

    public string Description => "how long a .NET program stands still for a snapshot, beside createdump, gcore and ClrMD";

    public BenchReport Run(Action<string> say, CancellationToken interrupted)
    {
        Dictionary<string, Spread> gaps = Measure(say, interrupted);
        string[] ours = [Ours, WithFile], others = [.. gaps.Keys.Except(ours).Where(way => way != Nothing)];
        IEnumerable<Finding> findings = others.SelectMany(way => ours.Select(our =>
            new Finding($"longest gap, {way} / {our}", gaps[way].P50 / gaps[our].P50, FigureUnit.Times, AtLeast: TimesShorter)));
        IEnumerable<Finding> worst = others.SelectMany(way => ours.Select(our =>
            new Finding($"longest gap, best round of {way} / worst of {our}", gaps[way].Minimum / gaps[our].Maximum, FigureUnit.Times)));
        return new BenchReport(Name, Description, DateOnly.FromDateTime(DateTime.UtcNow), MachineDescription.Here(), _series, [.. findings, .. worst], _notes);
    }

    private Dictionary<string, Spread> Measure(Action<string> say, CancellationToken interrupted)
    {
        if (HeapAppProcess.Program is null || MemoryInfo.Read("MemAvailable") < Needed)
        {
            _notes.Add($"Not measured: it takes {Figures.Bytes(Needed)} of free memory, and to be started by ./bench.");
            return [];
        }

        string folder = Directory.CreateTempSubdirectory("pvmmap-bench-").FullName;
        _dump = Path.Combine(folder, "core");
        try
        {
            using var app = new HeapAppProcess();
            say("filling 800 MiB");
            app.Grow(TreeDepth);
            app.FillHeap(HeapMegabytes);
            app.FillNative(NativeMegabytes);
            app.StartHeartbeat();
            (string Way, Action<HeapAppProcess> Capture, List<TimeSpan> Gaps, List<TimeSpan> Stops)[] ways =
            [
                (Nothing, _ => Thread.Sleep(500), [], []),
                (Ours, Snapshot, [], _stops),
                (WithFile, WriteCore, [], []),
                ("createdump --full", CreateDump, [], []),
                ("gcore", GCore, [], []),
                ("ClrMD CreateSnapshotAndAttach", ClrMD, [], []),
            ];
            // The first round is not counted: it also pays for what is loaded, compiled and found once.
            for (int round = 0; round <= Rounds; round++)
            {
                foreach ((string way, Action<HeapAppProcess> capture, List<TimeSpan> gaps, List<TimeSpan> stops) in ways)
                {
                    interrupted.ThrowIfCancellationRequested();
                    say($"{way}, round {round} of {Rounds}");
                    app.TakeLongestGap();
                    capture(app);
                    TimeSpan gap = app.TakeLongestGap();
                    File.Delete(_dump);
                    if (round == 0) stops.Clear();
                    else gaps.Add(gap);
                }
            }

            string data = $"{Figures.Bytes((HeapMegabytes + NativeMegabytes) * MiB)}, half of it heap";
            foreach ((string way, _, List<TimeSpan> gaps, List<TimeSpan> stops) in ways)
            {
                _series.Add(new Series(data, way, "longest gap", Spread.Of(gaps)));
                if (stops.Count > 0) _series.Add(new Series(data, way, "StopTime", Spread.Of(stops)));
            }

            return ways.ToDictionary(way => way.Way, way => Spread.Of(way.Gaps));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>With the count of its heap, so that it is known to be whole, while the program goes on.</summary>
    private void Snapshot(HeapAppProcess app)
    {
        using RuntimeSnapshot snapshot = RuntimeSnapshot.Capture(app.Pid, new RuntimeSnapshotOptions { WaitForWalkableHeap = true });
        _stops.Add(snapshot.Snapshot.StopTime);
        CheckHeap(snapshot.CountHeap().Size);
    }

    private void WriteCore(HeapAppProcess app)
    {
        using (ProcessSnapshot snapshot = ProcessSnapshot.Capture(app.Pid)) CoreDump.Write(snapshot, _dump, new CoreDumpOptions { Filter = CoreFilter.All });
        CheckDump(_dump);
    }

    private void CreateDump(HeapAppProcess app)
    {
        Run(Path.Combine(app.RuntimeFolder, "createdump"), "--full", "--name", _dump, Text(app.Pid));
        CheckDump(_dump);
    }

    private void GCore(HeapAppProcess app)
    {
        Run("gcore", "-o", _dump, Text(app.Pid));
        File.Move($"{_dump}.{Text(app.Pid)}", _dump);
        CheckDump(_dump);
    }

    private static void ClrMD(HeapAppProcess app)
    {
        using DataTarget target = DataTarget.CreateSnapshotAndAttach(app.Pid);
        using ClrRuntime runtime = target.ClrVersions[0].CreateRuntime(Path.Combine(app.RuntimeFolder, "libmscordaccore.so"), ignoreMismatch: true);
        CheckHeap(runtime.Heap.Segments.Aggregate(0UL, (sum, segment) => sum + segment.ObjectRange.Length));
    }

    private static void CheckHeap(ulong bytes)
    {
        if (bytes < HeapMegabytes * MiB) throw new IOException($"bench: the heap that was captured has {Figures.Bytes(bytes)}");
    }

    private static void CheckDump(string path)
    {
        if (new FileInfo(path).Length < (long)((HeapMegabytes + NativeMegabytes) * MiB)) throw new IOException($"bench: {path} has only {new FileInfo(path).Length} bytes");
    }

    private static string Text(int pid) => pid.ToString(CultureInfo.InvariantCulture);

    private static void Run(string command, params string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(command, arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        if (process.ExitCode != 0) throw new IOException($"bench: {command} failed: {(output + errors.GetAwaiter().GetResult()).ReplaceLineEndings(" ")}");
    }
}
