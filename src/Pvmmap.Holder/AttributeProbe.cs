using Pvmmap.Linux;

namespace Pvmmap.Holder.Freestanding;

/// <summary>
/// Lets the caller of a move read the attributes of the source's VMAs. /proc/PID/smaps tells them, at the price of a walk over every page up to the
/// range's end; so the first page of each VMA is taken, for an instant, to the lowest addresses of the memory, where smaps begins. A
/// userfaultfd keeps the empty places: a thread that touches one waits until the page is back.
/// </summary>
internal static unsafe class AttributeProbe
{
    // For each page: its VMA is split in three, and what it leaves behind is another; the area is split as well.
    private const uint Mappings = 4;

    /// <summary>Whether the caller asks for it, and the mappings that it takes can be had. Else all is as before: the caller reads the whole of smaps.</summary>
    public static bool IsWanted(Service* service)
    {
        ControlPage* control = service->Control;
        if (control->ProbeArea != 0 && Relocation.HasRoom(service->Call, control->SegmentCount * Mappings + Relocation.Mappings))
            return true;
        control->ProbeArea = 0;
        return false;
    }

    /// <summary>Returns false, all being as before, where it cannot be done.</summary>
    public static bool Place(Service* service)
    {
        KernelEntry call = service->Call;
        ControlPage* control = service->Control;
        ulong area = control->ProbeArea;
        int guard = Userfaultfd.Open(call, control->Without);
        if (guard < 0)
        {
            control->ProbeArea = 0;
            return false;
        }
        ulong length = AreaLength(control);
        long mapped = call(
            SystemCalls.mmap, (long)area, (long)length, Kernel.PROT_NONE, Kernel.MAP_SHARED | Kernel.MAP_FIXED_NOREPLACE, HolderFds.Control, ControlPage.Size);
        if (mapped != (long)area)
        {
            if (mapped > 0)
                Kernel.Unmap(call, (ulong)mapped, length);
            Kernel.Close(call, guard);
            control->ProbeArea = 0;
            return false;
        }
        control->ProbeGuard = guard;
        Kernel.Advise(call, area, area + length, Kernel.MADV_DONTFORK);
        call(SystemCalls.munlock, (long)area, (long)length, 0, 0, 0, 0);
        for (uint i = 0; i < control->SegmentCount; i++)
        {
            ulong page = service->Segments[i].Destination;
            long result = Userfaultfd.Register(call, guard, page, Kernel.PageSize);
            Published.Write(&control->Probed, i + 1);
            if (result >= 0 && (control->Without & KernelFeature.MremapDontUnmap) != 0)
                result = Kernel.EINVAL;
            if (result >= 0)
                result = Move(call, page, At(area, i), Kernel.MREMAP_DONTUNMAP);
            Steps.Reached(call, FillStep.PageProbed);
            if (result < 0)
            {
                Restore(service);
                return false;
            }
        }
        return true;
    }

    /// <summary>Brings the pages back, however far it had come.</summary>
    public static void Restore(Service* service)
    {
        KernelEntry call = service->Call;
        ControlPage* control = service->Control;
        ulong area = control->ProbeArea;
        if (area == 0 || control->ProbeGuard == 0)
            return;
        for (uint i = 0; i < control->Probed; i++)
        {
            if (Relocation.HasArrived(call, At(area, i)))
                BringBack(call, control->ProbeGuard, At(area, i), service->Segments[i].Destination);
            Steps.Reached(call, FillStep.PageBroughtBack);
        }
        Published.Write(&control->Probed, 0);
        Kernel.Unmap(call, area, AreaLength(control));
        // Who waits there is woken by that.
        Kernel.Close(call, control->ProbeGuard);
        control->ProbeGuard = 0;
        control->ProbeArea = 0;
    }

    // If other threads have taken the last mapping meanwhile the page is copied. It is given up only if its place is unmapped, or filled.
    private static void BringBack(KernelEntry call, int guard, ulong from, ulong to)
    {
        while (Move(call, from, to, 0) < 0)
        {
            long result = Userfaultfd.Copy(call, guard, to, from, Kernel.PageSize);
            if (result >= 0 || result == Kernel.ENOENT || result == Kernel.EEXIST)
                return;
            Kernel.Yield(call);
        }
    }

    // A page of the place kept between every two, so that they are mappings of their own, and one behind the last.
    private static ulong AreaLength(ControlPage* control) => 2 * control->SegmentCount * Kernel.PageSize;

    private static ulong At(ulong area, uint index) => area + 2 * index * Kernel.PageSize;

    private static long Move(KernelEntry call, ulong from, ulong to, long flags)
    {
        long result;
        do
        {
            result = call(
                SystemCalls.mremap, (long)from, (long)Kernel.PageSize, (long)Kernel.PageSize,
                Kernel.MREMAP_MAYMOVE | Kernel.MREMAP_FIXED | flags, (long)to, 0);
        }
        while (result == Kernel.EINTR);
        return result;
    }
}
