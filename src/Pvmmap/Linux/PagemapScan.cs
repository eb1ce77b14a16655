using System.Diagnostics;
using System.Runtime.InteropServices;

namespace Pvmmap.Linux;

/// <summary>The PAGEMAP_SCAN ioctl of /proc/PID/pagemap (Linux 6.7, linux/fs.h).</summary>
internal static unsafe class PagemapScan
{
    public const uint PAGEMAP_SCAN = 0xc0606610;
    public const ulong PAGE_IS_FILE = 1 << 2;
    public const ulong PAGE_IS_PRESENT = 1 << 3;
    public const ulong PAGE_IS_SWAPPED = 1 << 4;
    public const ulong PAGE_IS_PFNZERO = 1 << 5;
    public const ulong PAGE_IS_HUGE = 1 << 6;

    /// <summary>struct page_region.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct Region
    {
        public ulong Start;
        public ulong End;
        public ulong Categories;
    }

    /// <summary>struct pm_scan_arg.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct Argument
    {
        public ulong Size, Flags, Start, End, WalkEnd, Vector, VectorLength, MaxPages, CategoryInverted, CategoryMask, CategoryAnyofMask, ReturnMask;
    }

    /// <summary>
    /// 1 if at least one page of the range is present or swapped, else 0. The zero page does not count, but before Linux 6.7, where the entries do not
    /// tell it from others.
    /// </summary>
    public static SyscallResult AnyPopulated(FileDescriptor pagemap, PageRange range)
    {
        SyscallResult found = Scan(pagemap, range);
        return found.Errno == Errno.ENOTTY ? ScanEntries(pagemap, range) : found;
    }

    /// <summary>
    /// The parts of a range whose pages are present or swapped, but not the zero page nor, unless <paramref name="filesToo"/>, pages of a file or of
    /// shared memory. Ascending, not adjacent. Before Linux 6.7 the zero page counts.
    /// </summary>
    public static SyscallResult Populated(FileDescriptor pagemap, PageRange range, bool filesToo, List<PageRange> found) =>
        Populated(pagemap, range, filesToo ? PAGE_IS_PFNZERO : PAGE_IS_PFNZERO | PAGE_IS_FILE, found);

    /// <summary>The parts of a range of a process whose pages are present or swapped, and in none of the categories <paramref name="unwanted"/>.</summary>
    public static List<PageRange> Populated(FileDescriptor pagemap, int pid, PageRange range, ulong unwanted)
    {
        List<PageRange> found = [];
        Populated(pagemap, range, unwanted, found).OrThrow("read pagemap", pid, range);
        return found;
    }

    private static SyscallResult Populated(FileDescriptor pagemap, PageRange range, ulong unwanted, List<PageRange> found)
    {
        const int count = 512;
        Region[] regions = new Region[count];
        fixed (Region* vector = regions)
        {
            for (ulong at = range.Start; at < range.End;)
            {
                Argument scan = new()
                {
                    Size = (ulong)sizeof(Argument),
                    Start = at,
                    End = range.End,
                    Vector = (ulong)vector,
                    VectorLength = count,
                    CategoryInverted = unwanted,
                    CategoryMask = unwanted,
                    CategoryAnyofMask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
                    ReturnMask = PAGE_IS_PRESENT,
                };
                SyscallResult result = KernelFeatures.IsWithout(KernelFeature.PagemapScan)
                    ? new SyscallResult(-(long)Errno.ENOTTY) : SystemCall.InvokeUninterrupted(SystemCall.SYS_ioctl, pagemap.Number, PAGEMAP_SCAN, (long)&scan);
                if (result.Errno == Errno.ENOTTY) return PopulatedEntries(pagemap, new PageRange(at, range.End), (unwanted & PAGE_IS_FILE) == 0, found);
                if (result.Failed) return result;
                for (int i = 0; i < result.Value; i++) Add(found, regions[i].Start, regions[i].End);
                if (scan.WalkEnd <= at) break;
                at = scan.WalkEnd;
            }
        }
        return default;
    }

    /// <summary>
    /// Bytes of a range that are present or swapped: some of them, at least <paramref name="enough"/> if there are so many and they are counted quickly, as huge pages are, and what
    /// nobody has touched. Nothing before Linux 6.7.
    /// </summary>
    public static ulong PopulatedAtLeast(FileDescriptor pagemap, PageRange range, ulong enough)
    {
        const int count = 16;
        const ulong mebibyte = 1 << 20, first = 8 * mebibyte;
        Region* vector = stackalloc Region[count];
        ulong bytes = 0;
        for (ulong at = range.Start, slice = first; at < range.End && bytes < enough; at += slice, slice *= 2)
        {
            long begin = Stopwatch.GetTimestamp();
            PageRange part = new(at, Math.Min(range.End, at + slice));
            SyscallResult result = Scan(pagemap, part, 0, vector, count, (enough - bytes + PageRange.PageSize - 1) / PageRange.PageSize, out ulong walked);
            for (int i = 0; i < result.Value; i++) bytes += vector[i].End - vector[i].Start;
            // A microsecond for each MiB: huge pages take a thirtieth of that, others three times as long.
            if (result.Failed || walked < part.End || Stopwatch.GetElapsedTime(begin) > TimeSpan.FromMicroseconds(slice / mebibyte)) break;
        }
        return bytes;
    }

    private static SyscallResult PopulatedEntries(FileDescriptor pagemap, PageRange range, bool filesToo, List<PageRange> found)
    {
        const ulong populated = 3UL << 62, file = 1UL << 61;
        ulong[] entries = new ulong[4096];
        for (ulong at = range.Start; at < range.End;)
        {
            Span<ulong> wanted = entries.AsSpan(0, (int)Math.Min((ulong)entries.Length, (range.End - at) / PageRange.PageSize));
            SyscallResult read = Files.Read(pagemap, MemoryMarshal.AsBytes(wanted), at / PageRange.PageSize * sizeof(ulong));
            if (read.Failed) return read;
            int count = (int)read.Value / sizeof(ulong);
            if (count == 0) break;
            foreach (ulong entry in wanted[..count])
            {
                if ((entry & populated) != 0 && (filesToo || (entry & file) == 0)) Add(found, at, at + PageRange.PageSize);
                at += PageRange.PageSize;
            }
        }
        return default;
    }

    private static void Add(List<PageRange> found, ulong start, ulong end)
    {
        if (found.Count > 0 && found[^1].End == start) found[^1] = new PageRange(found[^1].Start, end);
        else found.Add(new PageRange(start, end));
    }

    private static SyscallResult ScanEntries(FileDescriptor pagemap, PageRange range)
    {
        const ulong populated = 3UL << 62;
        Span<ulong> entries = stackalloc ulong[256];
        for (ulong at = range.Start; at < range.End;)
        {
            Span<ulong> wanted = entries[..(int)Math.Min((ulong)entries.Length, (range.End - at) / PageRange.PageSize)];
            SyscallResult read = Files.Read(pagemap, MemoryMarshal.AsBytes(wanted), at / PageRange.PageSize * sizeof(ulong));
            if (read.Failed) return read;
            int count = (int)read.Value / sizeof(ulong);
            // Its memory is gone.
            if (count == 0) break;
            foreach (ulong entry in wanted[..count])
            {
                if ((entry & populated) != 0) return new SyscallResult(1);
            }
            at += (ulong)count * PageRange.PageSize;
        }
        return default;
    }

    /// <summary>1 if at least one transparent huge page of the range is present, else 0. ENOTTY before Linux 6.7.</summary>
    public static SyscallResult AnyHuge(FileDescriptor pagemap, PageRange range) => Scan(pagemap, range, PAGE_IS_HUGE);

    /// <summary>The same as <see cref="AnyPopulated"/> by the ioctl. ENOTTY before Linux 6.7.</summary>
    public static SyscallResult Scan(FileDescriptor pagemap, PageRange range) => Scan(pagemap, range, 0);

    private static SyscallResult Scan(FileDescriptor pagemap, PageRange range, ulong required)
    {
        Region found = default;
        return Scan(pagemap, range, required, &found, 1, maxPages: 1, out _);
    }

    private static SyscallResult Scan(FileDescriptor pagemap, PageRange range, ulong required, Region* found, int count, ulong maxPages, out ulong walked)
    {
        walked = range.Start;
        if (KernelFeatures.IsWithout(KernelFeature.PagemapScan)) return new SyscallResult(-(long)Errno.ENOTTY);
        Argument scan = new()
        {
            Size = (ulong)sizeof(Argument),
            Start = range.Start,
            End = range.End,
            Vector = (ulong)found,
            VectorLength = (ulong)count,
            MaxPages = maxPages,
            CategoryInverted = PAGE_IS_PFNZERO,
            CategoryMask = PAGE_IS_PFNZERO | required,
            CategoryAnyofMask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            ReturnMask = PAGE_IS_PRESENT,
        };
        SyscallResult result = SystemCall.InvokeUninterrupted(SystemCall.SYS_ioctl, pagemap.Number, PAGEMAP_SCAN, (long)&scan);
        walked = scan.WalkEnd;
        return result;
    }
}
