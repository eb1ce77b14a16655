namespace Pvmmap.Holder.Freestanding;

/// <summary>What a holder with a memory of its own has inherited from the source besides the range.</summary>
internal static unsafe class Inheritance
{
    /// <summary>Unmaps all of it.</summary>
    public static void GiveUp(KernelEntry call, HolderBootArguments* arguments)
    {
        for (ulong start = 0; Next(arguments, &start, out ulong end); start = end)
            Boot.Sweep(call, SystemCalls.munmap, start, end);
    }

    /// <summary>
    /// Keeps it from the guardian, who is forked now, and leaves it to <see cref="GiveUpLater"/>: that is a tenth of the work. Where the kernel cannot, all of it goes at once.
    /// </summary>
    public static void Postpone(KernelEntry call, HolderBootArguments* arguments)
    {
        for (ulong start = 0; Next(arguments, &start, out ulong end); start = end)
        {
            long result = call(SystemCalls.madvise, (long)start, (long)(end - start), Kernel.MADV_DONTFORK, 0, 0, 0);
            // ENOMEM says that there are holes; EAGAIN that there is no memory, or no room in the map count (madvise(2)).
            if (result >= 0 || result == Kernel.ENOMEM)
                continue;
            GiveUpAtOnce(call, arguments);
            return;
        }
    }

    /// <summary>It was to be later, but there is no room for something else beside it.</summary>
    public static void GiveUpAtOnce(KernelEntry call, HolderBootArguments* arguments)
    {
        arguments->Postpones = 0;
        GiveUp(call, arguments);
    }

    /// <summary>Unmaps what was postponed.</summary>
    public static void GiveUpLater(Service* service)
    {
        HolderBootArguments* arguments = service->Postponed;
        service->Postponed = null;
        if (arguments != null)
            GiveUp(service->Call, arguments);
    }

    // The next part of the address space, from a place on, that is none of ours.
    private static bool Next(HolderBootArguments* arguments, ulong* start, out ulong end)
    {
        do
        {
            ulong kept = arguments->AddressSpaceEnd;
            ulong behind = kept;
            Keep(arguments->ImageStart, arguments->ImageLength, *start, &kept, &behind);
            Keep(arguments->SourceStart, arguments->SourceLength, *start, &kept, &behind);
            Keep(arguments->Control, arguments->Control == 0 ? 0 : (ulong)ControlPage.Size, *start, &kept, &behind);
            end = kept;
            if (end > *start)
                return true;
            *start = behind;
        }
        while (*start < arguments->AddressSpaceEnd);
        return false;
    }

    /// <summary>Of two kept ranges the one that comes first at or behind an address.</summary>
    public static void Keep(ulong start, ulong length, ulong from, ulong* keptStart, ulong* keptEnd)
    {
        ulong end = start + length;
        if (length == 0 || end <= from || start >= *keptStart)
            return;
        *keptStart = start > from ? start : from;
        *keptEnd = end;
    }
}
