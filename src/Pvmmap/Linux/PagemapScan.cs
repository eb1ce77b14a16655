using System.Runtime.InteropServices;

namespace Pvmmap.Linux;

/// <summary>PAGEMAP_SCAN, the ioctl on /proc/PID/pagemap (linux/fs.h, Linux 6.7).</summary>
internal static unsafe class PagemapScan
{
    public const uint PAGEMAP_SCAN = 0xc0606610;
    public const ulong PAGE_IS_PRESENT = 1 << 3;

    /// <summary>struct pm_scan_arg.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct Argument
    {
        public ulong Size;
        public ulong Flags;
        public ulong Start;
        public ulong End;
        public ulong WalkEnd;
        public ulong Vector;
        public ulong VectorLength;
        public ulong MaximumPages;
        public ulong CategoryInverted;
        public ulong CategoryMask;
        public ulong CategoryAnyOfMask;
        public ulong ReturnMask;
    }

    /// <summary>struct page_region.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct Region
    {
        public ulong Start;
        public ulong End;
        public ulong Categories;
    }

    /// <summary>Finds the first present pages of a range.</summary>
    public static SyscallResult FirstPresent(FileDescriptor pagemap, PageRange range, out Region region)
    {
        Region found = default;
        Argument argument = new()
        {
            Size = (ulong)sizeof(Argument),
            Start = range.Start,
            End = range.End,
            Vector = (ulong)&found,
            VectorLength = 1,
            CategoryMask = PAGE_IS_PRESENT,
            ReturnMask = PAGE_IS_PRESENT,
        };
        SyscallResult result = SystemCall.Invoke(SystemCall.SYS_ioctl, pagemap.Number, PAGEMAP_SCAN, (long)&argument);
        region = found;
        return result;
    }
}
