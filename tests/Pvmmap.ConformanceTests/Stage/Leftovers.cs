using Pvmmap.Snapshots;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>Looks for holders, guardians, tracers and keepers of snapshots of this run that are still alive. Other runs on the machine have theirs.</summary>
internal static class Leftovers
{
    private static readonly string[] s_names = ["pvmmap-holder", "pvmmap-guardian", "pvmmap-sentinel", "pvmmap-tracer", "pvmmap-snapshot"];

    /// <summary>What one test has left behind is not laid to the charge of those after it.</summary>
    private static readonly HashSet<int> s_reported = [];

    /// <summary>Fails unless all of them are gone before long.</summary>
    public static void AssertNone(Theatre theatre, IReadOnlyCollection<Duplication> duplications, int seconds = 20)
    {
        string found = "";
        List<int> strays = [];
        if (Eventually.Becomes(() => (found = Find(theatre, duplications, strays)).Length == 0, seconds)) return;
        s_reported.UnionWith(strays);
        Assert.Fail($"left behind: {found}");
    }

    /// <summary>True while the number belongs to a living process of ours (not to a zombie, nor to a stranger that got it later).</summary>
    public static bool IsOurs(int pid) => pid > 0 && ProcessStatus.IsAlive(pid) && IsOurName(ProcessStatus.Name(pid));

    private static string Find(Theatre theatre, IReadOnlyCollection<Duplication> duplications, List<int> strays)
    {
        strays.Clear();
        IReadOnlySet<int> everybody = theatre.Everybody;
        var found = new List<string>();
        foreach (Duplication duplication in duplications)
        {
            if (IsOurs(duplication.HolderPid)) found.Add($"holder {duplication.HolderPid} ({duplication.State}, {duplication.BytesToGo} to go)");
            if (IsOurs(duplication.SentinelPid)) found.Add($"sentinel {duplication.SentinelPid} ({duplication.State})");
            if (IsOurs(duplication.GuardianPid)) found.Add($"guardian {duplication.GuardianPid} ({duplication.State})");
        }
        foreach (Duplication running in Duplication.Running())
        {
            if (everybody.Contains(running.SourcePid) || everybody.Contains(running.TargetPid))
                found.Add($"fill {running.SourcePid} -> {running.TargetPid} by {running.HolderPid} ({running.State})");
        }
        foreach (SnapshotListing snapshot in ProcessSnapshot.Running())
        {
            if (everybody.Contains(snapshot.ProcessId)) found.Add($"snapshot of {snapshot.ProcessId} in {snapshot.KeeperPid}");
        }
        foreach (int pid in ProcessStatus.All())
        {
            if (!IsOurs(pid)) continue;
            if (ProcessStatus.Parent(pid) is { } parent && everybody.Contains(parent)) found.Add($"{ProcessStatus.Name(pid)} {pid}, child of {parent}");
            else if (theatre.IsFromHere(pid) && !s_reported.Contains(pid))
            {
                strays.Add(pid);
                found.Add($"{ProcessStatus.Name(pid)} {pid}, made of a program of this run");
            }
        }
        return string.Join(", ", found);
    }

    private static bool IsOurName(string? name) => name is not null && s_names.Any(ours => ours.StartsWith(name, StringComparison.Ordinal));
}
