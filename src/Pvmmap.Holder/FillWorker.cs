using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Pvmmap.Holder.Freestanding;

/// <summary>
/// A second thread of the holder: while nobody waits for a page and a processor is free, it delivers the upper half of what is left. It reads the tables and writes nothing
/// but its own words here (and that the target may not be written to by its number), so it rests (<see cref="Pause"/>) before an event is read or a table changes. What it
/// cannot deliver at once it leaves to the loop.
/// </summary>
internal static unsafe class FillWorker
{
    private const long CLONE_FS = 0x200;
    private const long CLONE_SIGHAND = 0x800;
    private const long CLONE_THREAD = 0x10000;
    private const long CLOCK_THREAD_CPUTIME_ID = 3;
    private const uint SpinRounds = 64;

    /// <summary>Batches of the loop for which it is left alone: when other programs wanted its processor, and when it came upon what it cannot deliver.</summary>
    private const uint CrowdedBatches = 256;
    private const uint StuckBatches = 16;

    /// <summary>How much of that rest is over with each huge page: it is born beside the loop on one processor now and then, and on another the next time.</summary>
    private const uint BatchesPerHugePage = 64;

    /// <summary>Batches since somebody waited for a page: he may do so again soon, and would have to wait until the thread rests.</summary>
    private const uint QuietBatches = 8;

    /// <summary>Bytes after which it looks whether it has had a processor for itself, and nanoseconds for which it may have been kept from one.</summary>
    private const ulong BytesBetweenLooks = 1024 * 1024;
    private const ulong Delay = 200_000;

    /// <summary>Where its stack ends and how it is started; before that there can be none.</summary>
    public static void Prepare(Service* service, HolderBootArguments* arguments)
    {
        ImageHeader* header = (ImageHeader*)(arguments->ImageStart + ImageHeader.Offset);
        service->Worker.CloneCall = arguments->ImageStart + header->CloneCall;
        service->Worker.StackTop = arguments->ImageStart + arguments->ImageLength - HolderBootArguments.StackBytes + HolderBootArguments.WorkerStackBytes;
    }

    /// <summary>The thread.</summary>
    public static void Run(Service* service)
    {
        WorkerState* worker = &service->Worker;
        KernelEntry call = service->Call;
        // When it is over, the kernel says so here.
        call(SystemCalls.set_tid_address, (long)&worker->Lives, 0, 0, 0, 0, 0);
        Kernel.SetName(call, 0x662d_7061_6d6d_7670, 0x72_656c_6c69); // "pvmmap-filler"
        for (;;)
        {
            uint order = Published.Read(&worker->Order);
            if (worker->Leaves)
                return;
            if (!Turn(service))
                Kernel.WaitWhile(call, &worker->Order, order);
        }
    }

    /// <summary>One piece of the thread's work. False when there is none until the next order.</summary>
    public static bool Turn(Service* service)
    {
        WorkerState* worker = &service->Worker;
        uint order = Published.Read(&worker->Order);
        if (order == worker->Answer)
            return false;
        if (worker->Works && DeliverNext(service, worker))
            return true;
        Published.Write(&worker->Answer, order);
        Kernel.Wake(service->Call, &worker->Answer);
        return true;
    }

    /// <summary>For the loop, before a batch up to <paramref name="from"/> is delivered: gives the thread half of what lies behind it, if that is worth while.</summary>
    public static void Share(Service* service, ulong from, ulong end, ulong piece)
    {
        WorkerState* worker = &service->Worker;
        if (worker->StackTop == 0 || worker->IsOut || service->QuietBatches < QuietBatches || service->Pass != FillPass.Present || service->DropFailed || service->Withheld != 0)
            return;
        if (worker->BatchesToRest != 0)
        {
            worker->BatchesToRest--;
            return;
        }
        if (!IsDivisible(worker, from, end, out ulong middle))
            return;
        if (service->PendingCount != 0 || service->Counted != 0 || Service.CountAlive(service) != 1 || SegmentsToPoison.Exist(service) || !Exists(service))
            return;
        uint context = 0;
        while (!Service.IsAlive(service, context))
            context++;
        GiveAway(service, context, middle, end, piece);
        Steps.StandStill(service->Call, FillStep.WorkerBatchCopied);
    }

    /// <summary>The same while huge pages are written, for which nobody waits.</summary>
    public static void ShareAtOnce(Service* service, ulong from, ulong end)
    {
        WorkerState* worker = &service->Worker;
        if (worker->StackTop == 0 || worker->IsOut)
            return;
        if (worker->BatchesToRest != 0)
        {
            worker->BatchesToRest -= worker->BatchesToRest < BatchesPerHugePage ? worker->BatchesToRest : BatchesPerHugePage;
            return;
        }
        if (!IsDivisible(worker, from, end, out ulong middle) || !Exists(service))
            return;
        GiveAway(service, Service.Target, middle, end, ControlPage.HugePageBytes);
        SendToOtherProcessor(service->Call, worker->Tid);
    }

    // Neither of the two has a part of a huge page.
    private static bool IsDivisible(WorkerState* worker, ulong from, ulong end, out ulong middle)
    {
        middle = (from + (end - from) / 2 + worker->Grain - 1) & ~(worker->Grain - 1);
        return end >= from + 2 * worker->Grain && middle < end;
    }

    private static void GiveAway(Service* service, uint context, ulong start, ulong end, ulong piece)
    {
        WorkerState* worker = &service->Worker;
        worker->Context = context;
        worker->Piece = piece;
        worker->Start = start;
        worker->Position = start;
        worker->Settled = start;
        worker->Undropped = 0;
        worker->End = end;
        worker->Looked = 0;
        worker->IsCrowded = false;
        worker->IsOut = true;
        Command(service, works: true);
    }

    /// <summary>Whether the thread has a part of the range now. Counts what it has delivered.</summary>
    public static bool IsAtWork(Service* service)
    {
        WorkerState* worker = &service->Worker;
        if (!worker->IsOut)
            return false;
        bool rests = Published.Read(&worker->Answer) == worker->Order;
        Count(service);
        if (rests)
            Return(worker);
        return !rests;
    }

    /// <summary>Returns when the thread rests. It has no part of the range any more; a piece that it has not dropped is still there.</summary>
    public static void Pause(Service* service)
    {
        WorkerState* worker = &service->Worker;
        if (!worker->IsOut)
            return;
        Command(service, works: false);
        for (uint rounds = 0;; rounds++)
        {
            uint answer = Published.Read(&worker->Answer);
            if (answer == worker->Order)
                break;
            if (rounds < SpinRounds)
                Kernel.Yield(service->Call);
            else
                Kernel.WaitWhile(service->Call, &worker->Answer, answer);
        }
        Count(service);
        Return(worker);
    }

    /// <summary>The first address that is not the loop's to deliver in this pass.</summary>
    public static ulong Limit(Service* service)
    {
        WorkerState* worker = &service->Worker;
        return worker->IsOut ? worker->Start : worker->Bound != 0 ? worker->Bound : service->Control->SourceStart + service->Control->SourceLength;
    }

    /// <summary>A pass begins.</summary>
    public static void BeginPass(Service* service) => service->Worker.Bound = 0;

    /// <summary>Ends the thread, before its code and its stack go.</summary>
    public static void End(Service* service)
    {
        WorkerState* worker = &service->Worker;
        if (worker->Tid == 0)
            return;
        Pause(service);
        worker->Leaves = true;
        Command(service, works: false);
        while (Published.Read(&worker->Lives) != 0)
            Kernel.WaitWhile(service->Call, &worker->Lives, 1);
        worker->Tid = 0;
    }

    private static void Command(Service* service, bool works)
    {
        service->Worker.Works = works;
        Published.Write(&service->Worker.Order, service->Worker.Order + 1);
        Kernel.Wake(service->Call, &service->Worker.Order);
    }

    private static void Count(Service* service)
    {
        WorkerState* worker = &service->Worker;
        ulong delivered = Published.Read(&worker->Delivered);
        service->Control->BytesDone += delivered - worker->CountedBytes;
        worker->CountedBytes = delivered;
    }

    private static void Return(WorkerState* worker)
    {
        worker->IsOut = false;
        if (worker->Settled == worker->End)
            worker->Bound = worker->Start;
        else if (worker->IsCrowded)
            worker->BatchesToRest = CrowdedBatches;
        else if (worker->Works)
            worker->BatchesToRest = StuckBatches;
    }

    private static bool Exists(Service* service)
    {
        WorkerState* worker = &service->Worker;
        if (worker->Tid != 0)
            return true;
        const long flags = Kernel.CLONE_VM | CLONE_FS | Kernel.CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | Kernel.CLONE_UNTRACED;
        worker->Lives = 1;
        if (HasSeveralProcessors(service->Call))
        {
            var clone = (delegate*<long, ulong, ulong, ulong, long>)worker->CloneCall;
            delegate*<Service*, void> main = &Run;
            long thread = clone(flags, worker->StackTop, (ulong)main, (ulong)service);
            worker->Tid = thread > 0 ? (int)thread : 0;
        }
        // Not asked for with every batch.
        if (worker->Tid == 0)
            worker->StackTop = 0;
        return worker->Tid != 0;
    }

    // EINVAL: more than the mask has room for.
    [SkipLocalsInit]
    private static bool HasSeveralProcessors(KernelEntry call)
    {
        ProcessorMask mask;
        ulong* words = &mask.First;
        long bytes = call(SystemCalls.sched_getaffinity, 0, ProcessorMask.Bytes, (long)words, 0, 0, 0);
        uint processors = 0;
        for (long i = 0; i < bytes / 8; i++)
        {
            for (ulong word = words[i]; word != 0; word &= word - 1)
                processors++;
        }
        return bytes == Kernel.EINVAL || processors > 1;
    }

    // False if there is nothing more, or something that is not done in one go.
    private static bool DeliverNext(Service* service, WorkerState* worker)
    {
        PopulatedRun run;
        long found = service->TargetMemory != 0
            ? HugePageFill.Next(service, worker->Position, worker->End, &run)
            : Pagemap.Next(service, worker->Position, worker->End, worker->Piece, false, &run);
        if (found > 0 && run.Huge)
            BackgroundFill.StopAtItsEnd(&run);
        if ((found <= 0 || run.Start != worker->Position) && !Drop(service, worker))
            return false;
        if (found == 0)
            Published.Write(&worker->Settled, worker->End);
        if (found <= 0 || !Copy(service, worker, run.Start, run.End))
            return false;
        Steps.Reached(service->Call, FillStep.WorkerBatchCopied);
        if (worker->Undropped == 0)
            worker->Undropped = run.Start;
        worker->Position = run.End;
        if (!run.Huge || BackgroundFill.IsAtItsEnd(&run))
        {
            if (!Drop(service, worker))
                return false;
            Published.Write(&worker->Settled, run.End);
        }
        if (run.End == worker->End)
            return false;
        worker->IsCrowded = !HasItsProcessor(service->Call, worker);
        return !worker->IsCrowded;
    }

    private static bool Copy(Service* service, WorkerState* worker, ulong start, ulong end)
    {
        if (service->TargetMemory != 0)
            return HugePageFill.Write(service, start);
        while (start < end && SegmentTable.NextPiece(service, worker->Context, &start, end, out ulong destination, out ulong pieceEnd))
        {
            long copied = Userfaultfd.Copy(service->Call, service->Contexts[worker->Context].Fd, destination, start, pieceEnd - start);
            if (copied <= 0)
                return false;
            start += (ulong)copied;
        }
        return true;
    }

    private static bool Drop(Service* service, WorkerState* worker)
    {
        if (worker->Undropped == 0)
            return true;
        if (Kernel.Advise(service->Call, worker->Undropped, worker->Position, Kernel.MADV_DONTNEED) < 0)
            return false;
        Published.Write(&worker->Delivered, worker->Delivered + (worker->Position - worker->Undropped));
        worker->Undropped = 0;
        return true;
    }

    // It was kept waiting for a processor if more time has gone by than it has run.
    private static bool HasItsProcessor(KernelEntry call, WorkerState* worker)
    {
        if (worker->Looked != 0 && worker->Position - worker->Looked < BytesBetweenLooks)
            return true;
        ulong now = Kernel.Now(call);
        ulong run = Kernel.Now(call, CLOCK_THREAD_CPUTIME_ID);
        bool has = worker->Looked == 0 || now - worker->LookedAt < 2 * (run - worker->RunThen) + Delay;
        worker->Looked = worker->Position;
        worker->LookedAt = now;
        worker->RunThen = run;
        return has;
    }

    // Woken on the processor of the loop, which goes on, it would wait there for some milliseconds while another is idle. It may come back if the kernel likes.
    [SkipLocalsInit]
    private static void SendToOtherProcessor(KernelEntry call, int thread)
    {
        uint processor = 0;
        ProcessorMask mask;
        ulong* words = &mask.First;
        long bytes = call(SystemCalls.sched_getaffinity, thread, ProcessorMask.Bytes, (long)words, 0, 0, 0);
        if (call(SystemCalls.getcpu, (long)&processor, 0, 0, 0, 0, 0) < 0 || bytes <= processor / 8)
            return;
        ulong bit = 1UL << (int)(processor % 64);
        words[processor / 64] &= ~bit;
        // An error: there is no other for it.
        if (call(SystemCalls.sched_setaffinity, thread, bytes, (long)words, 0, 0, 0) < 0)
            return;
        words[processor / 64] |= bit;
        call(SystemCalls.sched_setaffinity, thread, bytes, (long)words, 0, 0, 0);
    }

    [StructLayout(LayoutKind.Sequential, Size = Bytes)]
    private struct ProcessorMask
    {
        public const int Bytes = 128;
        public ulong First;
    }
}

/// <summary>What the loop and the second thread know of each other.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct WorkerState
{
    /// <summary>Where the thread's stack ends, and what clones it. 0: there can be none, or there was no processor or no task for it.</summary>
    public ulong StackTop;
    public ulong CloneCall;
    /// <summary>Bytes: where the range may be divided, and how much each of both has at least. The tests make it small.</summary>
    public ulong Grain;

    // Of the loop.
    /// <summary>0: there is no thread.</summary>
    public int Tid;
    /// <summary>The thread has a part of the range, or has had it and nobody has looked since.</summary>
    public bool IsOut;
    public uint BatchesToRest;
    /// <summary>What of <see cref="Delivered"/> is counted in the control page.</summary>
    public ulong CountedBytes;
    /// <summary>What lies behind it has been delivered in this pass; 0: nothing yet.</summary>
    public ulong Bound;

    // An order, from the loop to the thread. The number (a futex) is written last.
    public bool Works;
    public bool Leaves;
    public uint Context;
    public ulong Piece;
    public ulong Start;
    public ulong End;
    public uint Order;

    // From the thread to the loop. The number of the order that has been carried out, or given up (a futex), is written last.
    public uint Answer;
    /// <summary>Up to where everything is delivered, and dropped too.</summary>
    public ulong Position;
    public ulong Settled;
    /// <summary>Bytes that it has ever delivered and dropped.</summary>
    public ulong Delivered;
    /// <summary>Others wanted its processor.</summary>
    public bool IsCrowded;
    /// <summary>Not 0 as long as the thread may use this memory (a futex; set_tid_address(2)).</summary>
    public uint Lives;

    // Of the thread.
    /// <summary>Start of what is delivered and not dropped yet; 0: nothing is.</summary>
    public ulong Undropped;
    /// <summary>Where, and when, it last looked for others on its processor, and how long it had run then; nanoseconds.</summary>
    public ulong Looked;
    public ulong LookedAt;
    public ulong RunThen;
}
