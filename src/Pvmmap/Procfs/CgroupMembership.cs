using System.Globalization;
using Pvmmap.Linux;

namespace Pvmmap.Procfs;

/// <summary>/proc/PID/cgroup and where its hierarchies are mounted (cgroups(7)).</summary>
internal static class CgroupMembership
{
    /// <summary>
    /// Puts processes into the cgroups of another one, hierarchy by hierarchy, where this process may: who stops a service or a container kills what is in
    /// its cgroup. Nothing is done where they are there already.
    /// </summary>
    /// <param name="families">The processes; those that one has started since, and that are where it is, stand behind it.</param>
    /// <param name="like">Whose cgroups it shall be.</param>
    public static void Adopt(ReadOnlySpan<int[]> families, int like)
    {
        string wanted = Read(like);
        foreach (int[] family in families)
        {
            if (Read(family[0]) is not { Length: > 0 } present || present == wanted) continue;
            HashSet<string> already = [.. present.Split('\n')];
            foreach (string line in wanted.Split('\n', StringSplitOptions.RemoveEmptyEntries).Where(line => !already.Contains(line)))
            {
                if (DirectoryOf(line) is not { } directory) continue;
                // Where it is not allowed they stay: docs/limits.md.
                foreach (int pid in family) Files.TryWriteText(Path.Combine(directory, "cgroup.procs"), pid.ToString(CultureInfo.InvariantCulture));
            }
        }
    }

    /// <summary>Whether two processes are in the same cgroups of all hierarchies.</summary>
    public static bool AreTogether(int pid, int other) => Read(pid) is { Length: > 0 } text && text == Read(other);

    /// <summary>Lowers oom_score_adj as far as this process may: to <paramref name="wanted"/>, never raising it.</summary>
    public static void ShieldFromOutOfMemory(int pid, int wanted)
    {
        if (OutOfMemoryScore(pid) is not { } present || present <= wanted) return;
        // Below the value that a privileged process set last it takes CAP_SYS_RESOURCE; that value is 0 if nobody did.
        if (!Files.TryWriteText(ScoreFile(pid), wanted.ToString(CultureInfo.InvariantCulture)) && wanted < 0 && present > 0) Files.TryWriteText(ScoreFile(pid), "0");
    }

    /// <summary>Raises oom_score_adj to <paramref name="wanted"/>; everybody may.</summary>
    public static void Expose(int pid, int wanted)
    {
        if (OutOfMemoryScore(pid) is { } present && present < wanted) Files.TryWriteText(ScoreFile(pid), wanted.ToString(CultureInfo.InvariantCulture));
    }

    /// <summary>oom_score_adj: -1000 (never chosen) to 1000. Null if the process is gone.</summary>
    public static int? OutOfMemoryScore(int pid) => int.TryParse(Text(ScoreFile(pid)), CultureInfo.InvariantCulture, out int score) ? score : null;

    /// <summary>The directory of a line "hierarchy:controllers:path" of /proc/PID/cgroup; null if that hierarchy is mounted nowhere here, or not down to there.</summary>
    /// <param name="line">A line of /proc/PID/cgroup.</param>
    /// <param name="mounts">The text of /proc/self/mountinfo.</param>
    internal static string? DirectoryOf(string line, string mounts)
    {
        string[] parts = line.Split(':', 3);
        if (parts.Length != 3) return null;
        foreach (string mount in mounts.Split('\n'))
        {
            // id parent major:minor root mount-point options [tags] - type source super-options
            int separator = mount.IndexOf(" - ", StringComparison.Ordinal);
            if (separator < 0) continue;
            string[] front = mount[..separator].Split(' '), back = mount[(separator + 3)..].Split(' ');
            if (front.Length < 5 || back.Length < 3) continue;
            bool matches = parts[1].Length == 0
                ? back[0] == "cgroup2"
                : back[0] == "cgroup" && parts[1].Split(',').All(controller => back[2].Split(',').Contains(controller));
            if (!matches) continue;
            string root = front[3] == "/" ? "" : front[3];
            if (parts[2] != root && !parts[2].StartsWith(root + "/", StringComparison.Ordinal)) continue;
            return front[4] + parts[2][root.Length..];
        }
        return null;
    }

    private static string? DirectoryOf(string line) => DirectoryOf(line, Text("/proc/self/mountinfo"));

    private static string Read(int pid) => Text(string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/cgroup"));

    private static string ScoreFile(int pid) => string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/oom_score_adj");

    // Nothing if the process is gone.
    private static string Text(string path) => Files.TryReadText(path) ?? "";
}
