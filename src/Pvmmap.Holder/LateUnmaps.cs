namespace Pvmmap.Holder.Freestanding;

/// <summary>
/// mremap() tells first that memory has moved, and when that has been read that it is gone from its old place. Others may have moved theirs to that place meanwhile,
/// and have told of it: what the second event takes away is not that. Until nothing is on its way any more, what is expected stands in the control page.
/// </summary>
internal static unsafe class LateUnmaps
{
    /// <summary>Where an event said that memory has moved away: the other one is to come, unless that was MREMAP_DONTUNMAP. Without room it is taken for munmap().</summary>
    public static void Expect(Service* service, uint context, UserfaultMessage* message)
    {
        LateUnmap* expected = service->LateUnmaps;
        uint slot = message->Slot;
        if (slot == 0)
        {
            while (slot < ControlPage.MaximumLateUnmaps && expected[slot].Length != 0)
                slot++;
            if (slot == ControlPage.MaximumLateUnmaps)
                return;
            // Whoever applies the event again takes the same place.
            slot++;
            Published.Write(&message->Slot, slot);
        }
        Published.Write(&service->Control->Unsettled, 1);
        LateUnmap* entry = expected + (slot - 1);
        entry->Start = message->From;
        entry->Context = context;
        Published.Write(&entry->Length, message->Length);
    }

    /// <summary>Whether this is the second event of a mremap(): then what has come to the place since stays.</summary>
    public static bool Take(Service* service, uint context, UserfaultMessage* message)
    {
        uint slot = message->Slot;
        if (slot == 0)
        {
            slot = Find(service, context, message->From, message->To);
            if (slot == 0)
                return false;
            Published.Write(&message->Slot, slot);
        }
        if (!IsLeftAgain(service, context, message->From, message->To, slot))
            Events.DiscardVacated(service, context, message->From, message->To);
        Published.Write(&service->LateUnmaps[slot - 1].Length, 0);
        return true;
    }

    /// <summary>Forgets what was expected, and what was put aside, once no event is on its way: all that came have been applied.</summary>
    public static void Settle(Service* service)
    {
        if (service->Control->Unsettled == 0)
            return;
        bool settled = true;
        ulong end = service->Control->AddressSpaceEnd;
        for (uint i = 0; i < service->Control->ContextCount; i++)
        {
            if (!Service.IsAlive(service, i) || !Concerns(service, i))
                continue;
            long answer = Delivery.Probe(service, service->Contexts[i].Fd, end - Kernel.PageSize, end);
            if (answer == Kernel.ESRCH)
                Delivery.EndContext(service, i);
            else if (Delivery.IsAnswer(answer))
                Forget(service, i);
            else
                settled = false;
        }
        if (settled)
            Published.Write(&service->Control->Unsettled, 0);
    }

    /// <summary>A context ends, or nothing of it is on its way.</summary>
    public static void Forget(Service* service, uint context)
    {
        LateUnmap* expected = service->LateUnmaps;
        for (uint i = 0; i < ControlPage.MaximumLateUnmaps; i++)
        {
            if (expected[i].Context == context)
                Published.Write(&expected[i].Length, 0);
        }
        Events.DiscardParked(service, context);
    }

    private static bool Concerns(Service* service, uint context)
    {
        for (uint i = 0; i < ControlPage.MaximumLateUnmaps; i++)
        {
            if (service->LateUnmaps[i].Length != 0 && service->LateUnmaps[i].Context == context)
                return true;
        }
        return SegmentTable.HasParked(service, context);
    }

    // Counted from 1; 0: none.
    private static uint Find(Service* service, uint context, ulong start, ulong end)
    {
        LateUnmap* expected = service->LateUnmaps;
        for (uint i = 0; i < ControlPage.MaximumLateUnmaps; i++)
        {
            if (expected[i].Length != 0 && expected[i].Start == start && expected[i].Length == end - start && expected[i].Context == context)
                return i + 1;
        }
        return 0;
    }

    // What came to the place has moved away too: that it is vacated is this one's.
    private static bool IsLeftAgain(Service* service, uint context, ulong start, ulong end, uint slot)
    {
        LateUnmap* expected = service->LateUnmaps;
        for (uint i = 0; i < ControlPage.MaximumLateUnmaps; i++)
        {
            if (i + 1 != slot && expected[i].Length != 0 && expected[i].Start < end && start < expected[i].Start + expected[i].Length && expected[i].Context == context)
                return true;
        }
        return false;
    }
}
