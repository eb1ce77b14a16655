using Pvmmap.Snapshots;

namespace Pvmmap.Cli;

/// <summary>A snapshot that was kept, by the number of its keeper, where a command takes any process.</summary>
internal static class KeptSnapshot
{
    /// <returns>Null if the process keeps none that may be opened: then it is a process like any other.</returns>
    /// <exception cref="PvmmapException">EBUSY: the snapshot belongs to another process.</exception>
    public static ProcessSnapshot? TryOpen(int pid)
    {
        try
        {
            return ProcessSnapshot.Open(pid);
        }
        catch (PvmmapException e) when (e.Errno is Errno.EINVAL or Errno.EPERM or Errno.ESRCH)
        {
            return null;
        }
    }
}
