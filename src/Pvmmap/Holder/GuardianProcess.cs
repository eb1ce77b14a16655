using System.Globalization;
using Pvmmap.Linux;
using Pvmmap.Procfs;

namespace Pvmmap.Holder;

/// <summary>The process that watches over a holder, seen from outside.</summary>
internal static class GuardianProcess
{
    /// <summary>Its number in our pid namespace: the holder's only child. Null if there is none.</summary>
    public static int? Find(int holderPid)
    {
        string? children = KernelFeatures.IsWithout(KernelFeature.ProcChildren) ? null
            : Files.TryReadText(string.Create(CultureInfo.InvariantCulture, $"/proc/{holderPid}/task/{holderPid}/children"));
        if (children is null) return Search(holderPid);
        return int.TryParse(children.AsSpan().Trim(), CultureInfo.InvariantCulture, out int child) ? child : null;
    }

    // The kernel lists no children (CONFIG_PROC_CHILDREN), or the holder has gone.
    private static int? Search(int holderPid)
    {
        if (!Directory.Exists(string.Create(CultureInfo.InvariantCulture, $"/proc/{holderPid}"))) return null;
        try
        {
            foreach (string folder in Directory.EnumerateDirectories("/proc"))
            {
                if (int.TryParse(Path.GetFileName(folder.AsSpan()), CultureInfo.InvariantCulture, out int pid) && IsChild(pid, holderPid)) return pid;
            }
        }
        catch (IOException)
        {
            // No descriptor left: who asks can do without, and may be past the point up to which a call can fail.
        }
        return null;
    }

    private static bool IsChild(int pid, int of)
    {
        try
        {
            ProcessStatus status = ProcessStatus.Read(pid);
            return status.PPid == of && status.State is not ('Z' or 'X');
        }
        catch (PvmmapException)
        {
            // Ended meanwhile, or somebody's who hides what is his.
            return false;
        }
    }

    /// <summary>Its pidfd; null if there is none.</summary>
    public static FileDescriptor? Open(int holderPid) => Open(Find(holderPid));

    /// <summary>The same, where its number has been found already.</summary>
    public static FileDescriptor? Open(int? found)
    {
        if (found is not { } pid) return null;
        try
        {
            return Pidfd.Open(pid);
        }
        catch (PvmmapException e) when (e.Errno == Errno.ESRCH)
        {
            return null;
        }
    }
}
