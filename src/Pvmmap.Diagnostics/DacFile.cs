using System.Globalization;
using Microsoft.Diagnostics.Runtime;
using Pvmmap.Linux;
using Pvmmap.Procfs;
using Pvmmap.Snapshots;

namespace Pvmmap.Diagnostics;

/// <summary>
/// libmscordaccore.so, the data access library: the part of each .NET version that knows its data structures. It lies beside libcoreclr.so, where the process
/// sees it, and is loaded into this process, with this process's rights.
/// </summary>
internal static class DacFile
{
    public const string Name = "libmscordaccore.so";

    private const UnixFileMode OthersMayWrite = UnixFileMode.GroupWrite | UnixFileMode.OtherWrite;

    /// <summary>The path to load it by.</summary>
    /// <exception cref="PvmmapException">ENOENT: it is not there. EACCES: somebody else could have put anything there.</exception>
    public static string Find(SnapshotIdentity process, ClrInfo runtime)
    {
        string beside = Path.Combine(Path.GetDirectoryName(runtime.ModuleInfo.FileName) ?? "/", Name);
        string path = Visible(process, beside);
        if (!File.Exists(path))
        {
            throw new PvmmapException(Errno.ENOENT, SnapshotDataTarget.Operation, process.ProcessId, hint: runtime.IsSingleFile
                ? $"it is a single-file app, which has no {Name} beside it; name the one of its version, from an installed runtime or a NuGet package"
                : $"there is no {beside}; name the {Name} of its version");
        }

        if (Files.TryOwner(path) is not var (owner, _) || (owner != 0 && owner != ProcessStatus.Read(Environment.ProcessId).EffectiveUid)
            || (new FileInfo(path).UnixFileMode & OthersMayWrite) != 0)
        {
            throw new PvmmapException(Errno.EACCES, SnapshotDataTarget.Operation, process.ProcessId,
                hint: $"{path} would be loaded into this process, and another user than root and the caller may write it; name it if it is to be trusted");
        }

        return path;
    }

    /// <summary>A path of the process's, as this process gets there: in a container, or after a chroot, the process has other files than the caller.</summary>
    private static string Visible(SnapshotIdentity process, string path)
    {
        string root = string.Create(CultureInfo.InvariantCulture, $"/proc/{process.ProcessId}/root");
        ProcessPlace here = ProcessPlace.Read(Environment.ProcessId), there = ProcessPlace.Read(process.ProcessId);
        bool elsewhere = there.Mount is not null && (there.Mount, there.Root) != (here.Mount, here.Root);
        return elsewhere && process.IsAlive() ? root + path : path;
    }

    /// <summary>The same process still has the number.</summary>
    private static bool IsAlive(this SnapshotIdentity process)
    {
        try
        {
            return ProcessStat.Read(process.ProcessId).StartTime == process.StartTime;
        }
        catch (PvmmapException e) when (e.Errno == Errno.ESRCH)
        {
            return false;
        }
    }
}
