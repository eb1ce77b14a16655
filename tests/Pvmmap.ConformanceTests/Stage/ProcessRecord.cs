using System.Globalization;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>
/// What others can see of a process, as lines of text: maps and VmFlags outside given ranges, descriptors, children, limits, credentials,
/// and of each thread its name, signal masks, pending signals and, where it sleeps, its system call, stack pointer and instruction pointer.
/// </summary>
internal sealed class ProcessRecord
{
    private const string Running = "running";
    private const int ManyMaps = 10_000;

    private static readonly string[] s_processKeys =
    [
        "State", "TracerPid", "Uid", "Gid", "FDSize", "Groups", "Threads", "ShdPnd", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd",
        "CapAmb", "NoNewPrivs", "Seccomp", "Umask", "PPid",
    ];

    private static readonly string[] s_threadKeys = ["Name", "SigPnd", "SigBlk", "Seccomp", "TracerPid", "Cpus_allowed_list"];

    private readonly SortedDictionary<string, string> _facts = new(StringComparer.Ordinal);

    private readonly bool _callers;
    private readonly PageRange[] _except;
    private readonly List<Vma> _maps;

    private ProcessRecord(int pid, PageRange[] except, bool callers)
    {
        (Pid, _except, _callers) = (pid, except, callers);
        _maps = callers ? [] : Smaps.ReadMaps(pid) is { Count: > ManyMaps } many ? many : Smaps.Read(pid);
        AddStatus("process", $"/proc/{pid}/status", s_processKeys);
        foreach (string fd in Directory.EnumerateFileSystemEntries($"/proc/{pid}/fd"))
            _facts[$"fd {Path.GetFileName(fd)}"] = new FileInfo(fd).LinkTarget ?? "?";
        foreach (string file in (string[])["limits", "oom_score_adj", "personality", "coredump_filter", "timerslack_ns", "cgroup"])
            if (File.Exists($"/proc/{pid}/{file}")) _facts[file] = File.ReadAllText($"/proc/{pid}/{file}").Trim();
        foreach (string link in (string[])["cwd", "root", "exe"])
            _facts[link] = new FileInfo($"/proc/{pid}/{link}").LinkTarget ?? "?";
        _facts["children"] = string.Join(' ', ProcessStatus.Children(pid).Order());
        foreach (string task in Directory.EnumerateDirectories($"/proc/{pid}/task"))
            if (!callers || task.EndsWith($"/{pid}", StringComparison.Ordinal)) AddThread(task);
    }

    public int Pid { get; }

    /// <summary>As <see cref="Take"/>, once the threads that go to sleep after an answer are asleep.</summary>
    public static ProcessRecord TakeAtRest(int pid, params IEnumerable<PageRange> except) => AtRest(() => Take(pid, except));

    /// <summary>Of a process that makes the call: the heap and the threads of the library's runtime are its own business.</summary>
    public static ProcessRecord TakeOfCaller(int pid) => AtRest(() => new ProcessRecord(pid, [], callers: true));

    public static ProcessRecord Take(int pid, params IEnumerable<PageRange> except) => new(pid, [.. except], callers: false);

    /// <summary>Each fact that is another, one a line; empty when nothing changed.</summary>
    public string Difference(ProcessRecord later)
    {
        PageRange[] except = [.. _except, .. later._except];
        bool sameMaps = _maps.Count == later._maps.Count && _maps.Zip(later._maps).All(pair => pair.First.Range == pair.Second.Range
            && pair.First.Offset == pair.Second.Offset && Alike(pair.First, pair.Second, adjacent: false));
        SortedDictionary<string, string> before = sameMaps ? _facts : WithMaps(except), after = sameMaps ? later._facts : later.WithMaps(except);
        var lines = new List<string>();
        foreach (string key in before.Keys.Union(after.Keys).Order(StringComparer.Ordinal))
        {
            string? was = before.GetValueOrDefault(key), now = after.GetValueOrDefault(key);
            if (was != now) lines.Add($"  {key}: {was ?? "(none)"} -> {now ?? "(none)"}");
        }
        return string.Join('\n', lines);
    }

    /// <summary>Fails unless the process soon looks as it did: a detached thread may need an instant to be back in its system call.</summary>
    public void AssertUnchanged(params IEnumerable<PageRange> except)
    {
        PageRange[] ranges = [.. except];
        string difference = "";
        if (!Eventually.Becomes(() => (difference = Difference(new ProcessRecord(Pid, ranges, _callers))).Length == 0, seconds: 3))
            Assert.Fail($"process {Pid} is not as it was:\n{difference}");
    }

    private static ProcessRecord AtRest(Func<ProcessRecord> take)
    {
        ProcessRecord? snapshot = null;
        Eventually.Becomes(() => !(snapshot = take())._facts.ContainsValue(Running), seconds: 1);
        return snapshot!;
    }

    /// <summary>VMAs outside the ranges, cut at their ends, neighbours that are alike joined: merging and splitting are no change.</summary>
    private SortedDictionary<string, string> WithMaps(PageRange[] except)
    {
        var facts = new SortedDictionary<string, string>(_facts, StringComparer.Ordinal);
        (PageRange Range, Vma Vma)? last = null;
        foreach (Vma vma in _maps)
        {
            foreach (PageRange piece in Cut(vma.Range, except))
            {
                if (last is { } l && l.Range.End == piece.Start && Alike(l.Vma, vma)) last = (new PageRange(l.Range.Start, piece.End), l.Vma);
                else
                {
                    Add(last);
                    last = (piece, vma);
                }
            }
        }
        Add(last);
        return facts;

        void Add((PageRange Range, Vma Vma)? piece)
        {
            if (piece is not { } p) return;
            ulong offset = p.Vma.Inode == "0" ? 0 : p.Vma.Offset + (p.Range.Start - p.Vma.Range.Start);
            facts[$"map {p.Range}"] = $"{p.Vma.Permissions} {offset:x} {p.Vma.Device} {p.Vma.Inode} {p.Vma.Name} [{p.Vma.Flags}]";
        }
    }

    private static bool Alike(Vma a, Vma b, bool adjacent = true) =>
        a.Permissions == b.Permissions && a.Flags == b.Flags && a.Name == b.Name && a.Inode == b.Inode
        && (!adjacent || a.Inode == "0" || a.Offset + a.Range.Length == b.Offset);

    private static List<PageRange> Cut(PageRange whole, PageRange[] except)
    {
        List<PageRange> pieces = [whole];
        foreach (PageRange hole in except)
        {
            pieces = [.. pieces.SelectMany(piece => !piece.Overlaps(hole) ? [piece] : (PageRange[])
                [new PageRange(piece.Start, Math.Max(piece.Start, hole.Start)), new PageRange(Math.Min(piece.End, hole.End), piece.End)])
                .Where(piece => piece.Length > 0)];
        }
        return pieces;
    }

    private void AddThread(string task)
    {
        string tid = Path.GetFileName(task);
        try
        {
            AddStatus($"thread {tid}", $"{task}/status", s_threadKeys);
            string[] call = File.ReadAllText($"{task}/syscall").Trim().Split(' ');
            _facts[$"thread {tid} syscall"] = call.Length >= 9
                ? string.Create(CultureInfo.InvariantCulture, $"{Number(call)} arguments {Arguments(call)} sp {call[7]} pc {call[8]}")
                : Running;
        }
        catch (IOException)
        {
            _facts[$"thread {tid}"] = "ended";
        }
    }

    /// <summary>The kernel goes on with a relative sleep as restart_syscall (219); that is the same sleep.</summary>
    private static string Number(string[] call) => call[0] is "219" or "35" or "7" or "202" or "230" ? "a wait" : call[0];

    /// <summary>An event loop computes the milliseconds until its next timer anew each time round (epoll_wait 232, epoll_pwait 281).</summary>
    private static string Arguments(string[] call)
    {
        string[] arguments = call[1..7];
        if (call[0] is "232" or "281" && Convert.ToInt32(arguments[3], 16) > 0) arguments[3] = "(a time)";
        return string.Join(' ', arguments);
    }

    private void AddStatus(string prefix, string file, string[] keys)
    {
        foreach (string line in File.ReadLines(file))
        {
            int colon = line.IndexOf(':', StringComparison.Ordinal);
            if (colon < 0 || !keys.Contains(line[..colon])) continue;
            string value = line[(colon + 1)..].Trim();
            // running, sleeping and waiting for a disk are all "not stopped"
            if (line.StartsWith("State", StringComparison.Ordinal) && (value[0] is 'R' or 'S' or 'D')) value = "not stopped";
            _facts[$"{prefix} {line[..colon]}"] = value;
        }
    }
}
