using System.Globalization;
using Pvmmap.Holder;
using Pvmmap.Linux;

namespace Pvmmap.Source;

/// <summary>What the holder really got: the mappings of the source at the instant of the fork.</summary>
internal static class Cut
{
    /// <summary>Reads it. Null if part of the range is not there.</summary>
    public static SourcePlan? Read(HolderProcess holder, PageRange range)
    {
        try
        {
            // The guardian has the same mappings without a page in them, so that its smaps and numa_maps cost nothing.
            int pid = holder.GuardianPid ?? holder.Pid;
            return SourcePlan.WithPolicies(pid, range, pid, mayBeAskedHere: holder.IsOwn);
        }
        catch (PvmmapException e) when (e.Errno == Errno.EFAULT)
        {
            return null;
        }
    }

    /// <summary>
    /// True if a piece may have been emptied in the fork (MADV_WIPEONFORK): it has no page in the holder but some in the source. The source may
    /// also have touched it since; only its smaps tells.
    /// </summary>
    public static bool MayBeWiped(HolderProcess holder, int sourcePid, SourcePlan cut)
    {
        using FileDescriptor taken = OpenPagemap(holder.Pid);
        FileDescriptor? original = null;
        try
        {
            // By VMA, not by piece: the advice of one is hidden by its neighbour's pages in the other.
            foreach (PageRange part in cut.Parts)
            {
                // The advice is for private anonymous memory only.
                if (!cut.AnonymousRuns.Any(run => run.Overlaps(part))) continue;
                SyscallResult pages = PagemapScan.AnyPopulated(taken, part);
                if (pages.Failed) return true;
                if (pages.Value > 0) continue;
                original ??= OpenPagemap(sourcePid);
                if (PagemapScan.AnyPopulated(original, part).Raw != 0) return true;
            }
            return false;
        }
        finally
        {
            original?.Dispose();
        }
    }

    private static FileDescriptor OpenPagemap(int pid) => Files.Open(string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/pagemap"), Files.O_RDONLY);
}
