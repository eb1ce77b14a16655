using System.ComponentModel;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>What a test needs of the machine beyond the library's own needs: a test that lacks it is skipped and says which.</summary>
internal static class Machine
{
    public const string MemoryCgroups = "/sys/fs/cgroup/memory", PidsCgroups = "/sys/fs/cgroup/pids", Zram = "/sys/class/zram-control";

    public static void RequireMemoryCgroup() => Require(File.Exists($"{MemoryCgroups}/memory.max_usage_in_bytes") && Root,
        $"needs root and the cgroup v1 memory controller at {MemoryCgroups}");

    public static void RequirePidsCgroup() => Require(File.Exists($"{PidsCgroups}/cgroup.procs") && Root,
        $"needs root and the cgroup v1 pids controller at {PidsCgroups}");

    /// <summary>The memory controller counts memory and swap together, too.</summary>
    public static bool AccountsSwap => File.Exists($"{MemoryCgroups}/memory.memsw.max_usage_in_bytes");

    public static void RequireSwapAccounting() => Require(AccountsSwap, "needs the memory controller's memory.memsw files (swapaccount=1)");

    public static void RequireZram() => Require(File.Exists($"{Zram}/hot_add") && Root && Finds("mkswap"),
        $"needs root, mkswap and zram ({Zram})");

    public static void RequireRoot() => Require(Root, "needs root, to start programs under another uid");

    public static void RequireProgram(string name) => Require(Finds(name), $"needs {name} on the PATH");

    /// <summary>A program of that kind which ends at once does so here.</summary>
    public static void RequireRunnable(string program, string kind)
    {
        const int execFormatError = 8; // ENOEXEC
        try
        {
            Assert.Equal((0, ""), Theatre.Run(program));
        }
        catch (Win32Exception e) when (e.NativeErrorCode == execFormatError)
        {
            Assert.Skip($"needs a machine that runs {kind}: exec() says ENOEXEC");
        }
    }

    public static void RequireSystemCall(long result, string name) => Require(result != -(long)Errno.ENOSYS, $"this kernel has no {name}");

    public static void Require(bool present, string need)
    {
        if (!present) Assert.Skip(need);
    }

    private static bool Root => Environment.IsPrivilegedProcess;

    private static bool Finds(string name) =>
        $"{Environment.GetEnvironmentVariable("PATH")}:/usr/sbin:/sbin".Split(':').Any(folder => File.Exists(Path.Combine(folder, name)));
}
