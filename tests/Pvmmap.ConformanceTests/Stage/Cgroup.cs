using System.Globalization;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>A cgroup of version 1, of this test's own; removed when it is disposed, once it is empty.</summary>
internal sealed class Cgroup : IDisposable
{
    private static int s_made;

    private readonly string _folder;
    private readonly Restoration _removal;

    private Cgroup(string controller)
    {
        int number = Interlocked.Increment(ref s_made);
        _folder = Directory.CreateDirectory($"{controller}/pvmmap-conformance-{Environment.ProcessId}-{number}").FullName;
        // whoever is in it may still be dying
        _removal = new Restoration($"n=0; until rmdir {_folder} || [ $n = 200 ]; do n=$((n+1)); sleep 0.1; done; [ ! -e {_folder} ]");
    }

    public static Cgroup Memory()
    {
        Machine.RequireMemoryCgroup();
        return new Cgroup(Machine.MemoryCgroups);
    }

    public static Cgroup Pids()
    {
        Machine.RequirePidsCgroup();
        return new Cgroup(Machine.PidsCgroups);
    }

    public void Enter(params ReadOnlySpan<int> pids)
    {
        foreach (int pid in pids) Set("cgroup.procs", (ulong)pid);
    }

    public ulong this[string file]
    {
        get => ulong.Parse(File.ReadAllText($"{_folder}/{file}"), CultureInfo.InvariantCulture);
        set => Set(file, value);
    }

    public void Dispose() => _removal.Dispose();

    private void Set(string file, ulong value) => File.WriteAllText($"{_folder}/{file}", value.ToString(CultureInfo.InvariantCulture));
}
