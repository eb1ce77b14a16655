namespace Pvmmap.Holder.Freestanding;

/// <summary>
/// Before a region is guarded: writes the huge pages of the range into it, where they become huge pages again, for UFFDIO_COPY makes small ones only. What is left is delivered as ever.
/// Through the target's /proc/PID/mem, which stands for the memory, not for the process, so that nothing is written after an execve(); and, as long as that memory is there, with
/// process_vm_writev(), which takes two thirds of the time, where the region is so far from everything that the next program, should it begin in that very instant, has nothing there (EFAULT).
/// </summary>
internal static unsafe class HugePageFill
{
    /// <param name="service">Its segment table says where the region is.</param>
    /// <param name="memory">The target's mem, open for writing; closed here.</param>
    public static void Run(Service* service, int memory)
    {
        service->TargetMemory = memory;
        service->Cursor = service->Control->SourceStart;
        while (Step(service))
        {
        }
        FillWorker.Pause(service);
        FillWorker.BeginPass(service);
        service->Cursor = service->Control->SourceStart;
        service->TargetMemory = 0;
        Kernel.Close(service->Call, memory);
    }

    /// <summary>The first huge page that lies in the range as a whole: 1, or 0 if there is none.</summary>
    public static long Next(Service* service, ulong start, ulong end, PopulatedRun* run)
    {
        while (start < end && Pagemap.NextHuge(service, start, end, 2 * ControlPage.HugePageBytes, run) > 0)
        {
            start = run->End;
            run->Start = (run->Start + ControlPage.HugePageBytes - 1) & ~(ControlPage.HugePageBytes - 1);
            if (run->Start >= run->End || run->End - run->Start < ControlPage.HugePageBytes)
                continue;
            run->End = run->Start + ControlPage.HugePageBytes;
            return 1;
        }
        return 0;
    }

    /// <summary>Writes one. False if it is not all there: the target may have a huge page then of which a part is zeros, and the holder has it still.</summary>
    public static bool Write(Service* service, ulong page)
    {
        ulong start = page;
        ulong end = page + ControlPage.HugePageBytes;
        if (!SegmentTable.NextPiece(service, Service.Target, &start, end, out ulong destination, out ulong pieceEnd) || start != page || pieceEnd != end)
            return false;
        return WriteByNumber(service, page, destination)
            || service->Call(SystemCalls.pwrite64, service->TargetMemory, (long)page, (long)ControlPage.HugePageBytes, (long)destination, 0, 0) == (long)ControlPage.HugePageBytes;
    }

    private static bool WriteByNumber(Service* service, ulong page, ulong destination)
    {
        int target = service->Control->TargetOwnPid;
        byte any;
        // At 0 there is an error to be had of a memory that is there, and nothing of one that is not.
        if (target == 0 || service->Call(SystemCalls.pread64, service->TargetMemory, (long)&any, 1, 0, 0, 0) == 0)
            return false;
        Words2 from;
        from.First = page;
        from.Second = ControlPage.HugePageBytes;
        Words2 to;
        to.First = destination;
        to.Second = ControlPage.HugePageBytes;
        if (service->Call(SystemCalls.process_vm_writev, target, (long)&from, 1, (long)&to, 1, 0) == (long)ControlPage.HugePageBytes)
            return true;
        // EPERM: the holder is whom the source was, who need not have the caller's rights.
        service->Control->TargetOwnPid = 0;
        return false;
    }

    // False when no huge page is left, one could not be written, or the call has been given up.
    private static bool Step(Service* service)
    {
        PopulatedRun run;
        if (Messages.Awaits(service->Call, 0))
            return false;
        bool helped = FillWorker.IsAtWork(service);
        ulong end = FillWorker.Limit(service);
        if (Next(service, service->Cursor, end, &run) == 0)
        {
            if (!helped)
                return false;
            FillWorker.Pause(service);
            service->Cursor = service->Worker.Settled;
            return true;
        }
        FillWorker.ShareAtOnce(service, run.End, end);
        if (!Write(service, run.Start))
            return false;
        Delivery.DropPopulated(service, run.Start, run.End, ControlPage.HugePageBytes);
        service->Cursor = run.End;
        Steps.Reached(service->Call, FillStep.BatchDropped);
        return true;
    }
}
