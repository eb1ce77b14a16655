using System.Globalization;
using System.Runtime.InteropServices;
using Pvmmap.Linux;
using Pvmmap.Procfs;

namespace Pvmmap.Target;

/// <summary>Joins pages of a process to transparent huge pages, from outside: process_madvise(2) with MADV_COLLAPSE (Linux 6.1).</summary>
internal static unsafe class HugePages
{
    private const string SizeFile = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size";

    /// <param name="process">A pidfd of the process.</param>
    /// <param name="pid">Its number.</param>
    /// <param name="range">Blocks of a huge page's size and alignment in it that have all their pages are joined; holes stay holes.</param>
    /// <param name="progress">Told of the bytes looked at.</param>
    /// <param name="cancellation">Ends it between two blocks.</param>
    /// <returns>Bytes that are in huge pages now.</returns>
    public static ulong Collapse(FileDescriptor process, int pid, PageRange range, IProgress<ulong>? progress, CancellationToken cancellation)
    {
        if (!File.Exists(SizeFile)) throw new PvmmapException(Errno.EOPNOTSUPP, "join pages to huge pages", hint: "this kernel has no transparent huge pages");
        ulong size = ulong.Parse(File.ReadAllText(SizeFile), CultureInfo.InvariantCulture);
        SyscallResult allowed = Advise(process, default, 0);
        allowed.OrThrow("join pages to huge pages", pid, range, allowed.Errno switch
        {
            Errno.EPERM => "needs CAP_SYS_NICE, and the right to ptrace the process; or let it call madvise(MADV_COLLAPSE) itself",
            Errno.EINVAL or Errno.ENOSYS => "this kernel has no MADV_COLLAPSE for other processes (Linux 6.1)",
            _ => null,
        });
        ulong joined = 0, first = (range.Start + size - 1) & ~(size - 1);
        for (ulong at = first; at + size <= range.End && at >= first; at += size)
        {
            cancellation.ThrowIfCancellationRequested();
            PageRange block = new(at, at + size);
            // A block with holes would get memory for them; one that is refused (MADV_NOHUGEPAGE, no free huge page, busy) stays as it is.
            List<PagemapEntry> pages = Pagemap.Read(pid, block);
            if (pages.Count > 0 && pages.TrueForAll(page => page.Present))
            {
                SyscallResult result = Advise(process, block, 1);
                if (result.Errno is Errno.ESRCH or Errno.EPERM) result.OrThrow("join pages to huge pages", pid, block);
                if (!result.Failed) joined += size;
            }
            progress?.Report(block.End - range.Start);
        }
        return joined;
    }

    private static SyscallResult Advise(FileDescriptor process, PageRange block, int count)
    {
        Vector vector = new() { Base = block.Start, Length = block.Length };
        return SystemCall.InvokeUninterrupted(SystemCall.SYS_process_madvise, process.Number, (long)&vector, count, Memory.MADV_COLLAPSE, 0);
    }

    /// <summary>struct iovec.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Vector
    {
        public ulong Base, Length;
    }
}
