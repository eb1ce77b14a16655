using System.Runtime.InteropServices;

namespace Pvmmap.Linux;

/// <summary>The PAGEMAP_SCAN ioctl of /proc/PID/pagemap (Linux 6.7, linux/fs.h).</summary>
internal static unsafe class PagemapScan
{
    public const uint PAGEMAP_SCAN = 0xc0606610;
    public const ulong PAGE_IS_PRESENT = 1 << 3;
    public const ulong PAGE_IS_SWAPPED = 1 << 4;
    public const ulong PAGE_IS_PFNZERO = 1 << 5;

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

    /// <summary>True if at least one page of the range is present or swapped, and not the zero page. ENOTTY before Linux 6.7.</summary>
    public static SyscallResult AnyPopulated(FileDescriptor pagemap, PageRange range)
    {
        Region found = default;
        Argument scan = new()
        {
            Size = (ulong)sizeof(Argument),
            Start = range.Start,
            End = range.End,
            Vector = (ulong)&found,
            VectorLength = 1,
            MaxPages = 1,
            CategoryInverted = PAGE_IS_PFNZERO,
            CategoryMask = PAGE_IS_PFNZERO,
            CategoryAnyofMask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            ReturnMask = PAGE_IS_PRESENT,
        };
        return SystemCall.InvokeUninterrupted(SystemCall.SYS_ioctl, pagemap.Number, PAGEMAP_SCAN, (long)&scan);
    }
}
