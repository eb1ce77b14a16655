using System.Globalization;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>Single facts from /proc; null when the process is gone.</summary>
internal static class ProcessStatus
{
    /// <summary>R, S, D, T, t, Z, X as proc_pid_stat(5) has them.</summary>
    public static char? State(int pid) => Stat(pid) is { } stat ? stat[stat.LastIndexOf(')') + 2] : null;

    public static int? Parent(int pid) =>
        Stat(pid) is { } stat ? int.Parse(stat[(stat.LastIndexOf(')') + 4)..].Split(' ')[0], CultureInfo.InvariantCulture) : null;

    public static int? Session(int pid) =>
        Stat(pid) is { } stat ? int.Parse(stat[(stat.LastIndexOf(')') + 4)..].Split(' ')[2], CultureInfo.InvariantCulture) : null;

    public static string? Name(int pid) => Stat(pid) is { } stat ? stat[(stat.IndexOf('(') + 1)..stat.LastIndexOf(')')] : null;

    public static bool IsAlive(int pid) => State(pid) is not (null or 'Z' or 'X');

    /// <summary>A figure of /proc/PID/status, in bytes where the kernel gives kB.</summary>
    public static ulong Figure(int pid, string key)
    {
        string line = File.ReadLines($"/proc/{pid}/status").First(line => line.StartsWith(key + ":", StringComparison.Ordinal));
        string[] words = line[(key.Length + 1)..].Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries);
        return ulong.Parse(words[0], CultureInfo.InvariantCulture) * (words[^1] == "kB" ? 1024UL : 1);
    }

    public static IEnumerable<int> All() =>
        Directory.EnumerateDirectories("/proc").Select(Path.GetFileName).Where(name => char.IsAsciiDigit(name![0]))
            .Select(name => int.Parse(name!, CultureInfo.InvariantCulture));

    public static IEnumerable<int> Children(int pid) => All().Where(child => Parent(child) == pid);

    public static int Descriptors(int pid) => Directory.EnumerateFileSystemEntries($"/proc/{pid}/fd").Count();

    public static int Userfaultfds(int pid) =>
        Directory.EnumerateFileSystemEntries($"/proc/{pid}/fd").Count(entry => new FileInfo(entry).LinkTarget == "anon_inode:[userfaultfd]");

    public static int Mappings(int pid) => File.ReadLines($"/proc/{pid}/maps").Count();

    /// <summary>As RLIMIT_NPROC counts them: threads of whatever process, those too that ended and wait to be reaped.</summary>
    public static ulong TasksOf(int user)
    {
        ulong tasks = 0;
        foreach (int pid in All())
        {
            if (Text(pid, "status") is not { } status || !status.Contains($"\nUid:\t{user}\t", StringComparison.Ordinal)) continue;
            const string threads = "\nThreads:\t";
            int at = status.IndexOf(threads, StringComparison.Ordinal) + threads.Length;
            tasks += ulong.Parse(status.AsSpan(at, status.IndexOf('\n', at) - at), CultureInfo.InvariantCulture);
        }
        return tasks;
    }

    /// <summary>
    /// Where a thread is blocked, once it is: one that was let go, or that has just answered, may still be on its way back to its system call.
    /// </summary>
    public static (ulong StackPointer, ulong InstructionPointer) BlockedAt(int pid, int thread)
    {
        string[] words = [];
        // number, six arguments, stack pointer, instruction pointer; "running"
        Eventually.Holds(() => (words = File.ReadAllText($"/proc/{pid}/task/{thread}/syscall").Split(' ', '\n')).Length >= 9, $"thread {thread} is blocked");
        return (Hex(words[7]), Hex(words[8]));

        static ulong Hex(string text) => ulong.Parse(text.AsSpan(2), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
    }

    /// <summary>Threads of a process that are stopped or traced, and by whom.</summary>
    public static IEnumerable<string> Restraints(int pid)
    {
        List<string> found = [];
        try
        {
            foreach (string task in Directory.EnumerateDirectories($"/proc/{pid}/task"))
            {
                foreach (string line in File.ReadLines($"{task}/status"))
                {
                    if (line.StartsWith("State:\tT", StringComparison.OrdinalIgnoreCase) || (line.StartsWith("TracerPid:", StringComparison.Ordinal) && line != "TracerPid:\t0"))
                        found.Add($"{task} {line}");
                }
            }
        }
        catch (IOException)
        {
            // it ends just now
        }
        return found;
    }

    private static string? Stat(int pid) => Text(pid, "stat");

    private static string? Text(int pid, string file)
    {
        try
        {
            return File.ReadAllText($"/proc/{pid}/{file}");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
