using System.Globalization;
using Pvmmap.Linux;

namespace Pvmmap.Holder;

/// <summary>The process that watches over a holder, seen from outside.</summary>
internal static class GuardianProcess
{
    /// <summary>Its number in our pid namespace: the holder's only child. Null if there is none, or the kernel lists no children (CONFIG_PROC_CHILDREN).</summary>
    public static int? Find(int holderPid)
    {
        string? children = Files.TryReadText(string.Create(CultureInfo.InvariantCulture, $"/proc/{holderPid}/task/{holderPid}/children"));
        return int.TryParse(children.AsSpan().Trim(), CultureInfo.InvariantCulture, out int child) ? child : null;
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
