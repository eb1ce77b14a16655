using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Pvmmap.Linux;

namespace Pvmmap.Holder.Freestanding;

/// <summary>The holder's own page table, read through /proc/PID/pagemap: it is the list of what is still to be delivered.</summary>
internal static unsafe class Pagemap
{
    private const ulong PAGEMAP_SCAN = 0xc0606610;
    private const ulong PAGE_IS_PRESENT = 8;
    private const ulong PAGE_IS_SWAPPED = 16;
    private const ulong PAGE_IS_PFNZERO = 32;
    private const ulong PAGE_IS_HUGE = 64;

    private const int EntriesPerRead = 128;
    private const int RegionsPerScan = 16;

    [StructLayout(LayoutKind.Sequential)]
    private struct Region
    {
        public ulong Start;
        public ulong End;
        public ulong Categories;
    }

    [StructLayout(LayoutKind.Sequential, Size = RegionsPerScan * 24)]
    private struct Regions
    {
        public Region First;
    }

    [StructLayout(LayoutKind.Sequential, Size = EntriesPerRead * 8)]
    private struct Entries
    {
        public ulong First;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ScanArgument
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

    /// <summary>
    /// Finds the first run of populated pages in the range: present, and with <paramref name="swapped"/> swapped out too, but not the zero page.
    /// Returns 1, 0 when there is none, or a negated errno. The run is at most <paramref name="maximum"/> bytes long.
    /// </summary>
    public static long Next(Service* service, ulong start, ulong end, ulong maximum, bool swapped, PopulatedRun* run)
    {
        long found = First(service, start, end, maximum, swapped, 0, run);
        return found < 0 ? NextByEntries(service->Call, start, end, maximum, swapped, run) : found;
    }

    /// <summary>The same for transparent huge pages, present; a negated errno before Linux 6.7, which does not tell of them.</summary>
    public static long NextHuge(Service* service, ulong start, ulong end, ulong maximum, PopulatedRun* run) =>
        First(service, start, end, maximum, false, PAGE_IS_HUGE, run);

    private static long First(Service* service, ulong start, ulong end, ulong maximum, bool swapped, ulong required, PopulatedRun* run)
    {
        Region region;
        region.Start = 0;
        region.End = 0;
        region.Categories = 0;
        long found = Scan(service, start, end, maximum / Kernel.PageSize, swapped, required, &region, 1, out _);
        run->Start = region.Start;
        run->End = region.End;
        run->Huge = (region.Categories & PAGE_IS_HUGE) != 0;
        return found;
    }

    /// <summary>Populated bytes in the range, present or swapped.</summary>
    [SkipLocalsInit]
    public static ulong CountBytes(Service* service, ulong start, ulong end)
    {
        Regions buffer;
        Region* regions = &buffer.First;
        ulong bytes = 0;
        while (start < end)
        {
            long found = Scan(service, start, end, 0, true, 0, regions, RegionsPerScan, out ulong walkEnd);
            if (found < 0)
                return bytes + CountByEntries(service->Call, start, end);
            for (long i = 0; i < found; i++)
                bytes += regions[i].End - regions[i].Start;
            if (found < RegionsPerScan || walkEnd <= start)
                break;
            start = walkEnd;
        }
        return bytes;
    }

    private static long Scan(
        Service* service, ulong start, ulong end, ulong maximumPages, bool swapped, ulong required, Region* regions, ulong length, out ulong walkEnd)
    {
        walkEnd = 0;
        if ((service->Control->Without & KernelFeature.PagemapScan) != 0)
            return Kernel.ENOTTY;
        ScanArgument argument;
        argument.Size = (ulong)sizeof(ScanArgument);
        argument.Flags = 0;
        argument.Start = start;
        argument.End = end;
        argument.WalkEnd = 0;
        argument.Vector = (ulong)regions;
        argument.VectorLength = length;
        argument.MaximumPages = maximumPages;
        argument.CategoryInverted = PAGE_IS_PFNZERO;
        argument.CategoryMask = PAGE_IS_PFNZERO | required;
        argument.CategoryAnyOfMask = swapped ? PAGE_IS_PRESENT | PAGE_IS_SWAPPED : PAGE_IS_PRESENT;
        // PRESENT is not asked for: regions of different categories are not merged.
        argument.ReturnMask = PAGE_IS_HUGE;
        long found = Kernel.Ioctl(service->Call, HolderFds.Pagemap, PAGEMAP_SCAN, &argument);
        walkEnd = argument.WalkEnd;
        return found;
    }

    // Before Linux 6.7 there is no PAGEMAP_SCAN. The entries do not tell the zero page from others: it is then delivered as a page of zeros.
    [SkipLocalsInit]
    private static long NextByEntries(KernelEntry call, ulong start, ulong end, ulong maximum, bool swapped, PopulatedRun* run)
    {
        Entries buffer;
        ulong* entries = &buffer.First;
        run->Huge = false;
        bool found = false;
        while (start < end)
        {
            long count = ReadEntries(call, start, end, entries);
            if (count <= 0)
                return found ? 1 : Kernel.EFAULT;
            for (long i = 0; i < count; i++, start += Kernel.PageSize)
            {
                if (IsPopulated(entries[i], swapped))
                {
                    if (!found)
                        run->Start = start;
                    found = true;
                    run->End = start + Kernel.PageSize;
                    if (run->End - run->Start >= maximum)
                        return 1;
                }
                else if (found)
                    return 1;
            }
        }
        return found ? 1 : 0;
    }

    [SkipLocalsInit]
    private static ulong CountByEntries(KernelEntry call, ulong start, ulong end)
    {
        Entries buffer;
        ulong* entries = &buffer.First;
        ulong bytes = 0;
        while (start < end)
        {
            long count = ReadEntries(call, start, end, entries);
            if (count <= 0)
                break;
            for (long i = 0; i < count; i++, start += Kernel.PageSize)
            {
                if (IsPopulated(entries[i], true))
                    bytes += Kernel.PageSize;
            }
        }
        return bytes;
    }

    private static long ReadEntries(KernelEntry call, ulong start, ulong end, ulong* entries)
    {
        ulong pages = (end - start) / Kernel.PageSize;
        if (pages > EntriesPerRead)
            pages = EntriesPerRead;
        long bytes = call(SystemCalls.pread64, HolderFds.Pagemap, (long)entries, (long)pages * 8, (long)(start / Kernel.PageSize * 8), 0, 0);
        return bytes < 0 ? bytes : bytes / 8;
    }

    private static bool IsPopulated(ulong entry, bool swapped) => (entry >> 63) != 0 || (swapped && (entry >> 62 & 1) != 0);
}

/// <summary>A run of populated pages.</summary>
internal struct PopulatedRun
{
    public ulong Start;
    public ulong End;
    /// <summary>Made of transparent huge pages.</summary>
    public bool Huge;
}
