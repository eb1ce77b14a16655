using System.Runtime.InteropServices;
using Xunit;

namespace Pvmmap.Tests.Procfs;

/// <summary>A child that has ended and is waited for only when this is disposed.</summary>
internal sealed unsafe partial class Zombie : IDisposable
{
    private const int P_PID = 1, WEXITED = 4, WNOWAIT = 0x1000000;

    private Zombie(int pid) => Pid = pid;

    public int Pid { get; }

    public static Zombie Make()
    {
        // A child that the runtime did not start: its SIGCHLD handler leaves it alone.
        byte* path = stackalloc byte[] { (byte)'/', (byte)'b', (byte)'i', (byte)'n', (byte)'/', (byte)'t', (byte)'r', (byte)'u', (byte)'e', 0 };
        byte** arguments = stackalloc byte*[] { path, null };
        byte** environment = stackalloc byte*[] { null };
        int error = posix_spawn(out int pid, path, null, null, arguments, environment);
        Assert.Equal(0, error);
        byte* siginfo = stackalloc byte[128];
        Assert.Equal(0, waitid(P_PID, pid, siginfo, WEXITED | WNOWAIT));
        return new Zombie(pid);
    }

    public void Dispose() => _ = waitpid(Pid, null, 0);

#pragma warning disable IDE1006 // named as in libc
    [LibraryImport("libc")]
    private static partial int posix_spawn(out int pid, byte* path, void* actions, void* attributes, byte** argv, byte** envp);

    [LibraryImport("libc")]
    private static partial int waitid(int type, int id, byte* siginfo, int options);

    [LibraryImport("libc")]
    private static partial int waitpid(int pid, int* status, int options);
#pragma warning restore IDE1006
}
