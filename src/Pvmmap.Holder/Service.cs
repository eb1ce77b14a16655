using System.Runtime.InteropServices;

namespace Pvmmap.Holder.Freestanding;

/// <summary>What a holder or a guardian knows besides the control page: private to it, lost with it.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct Service
{
    public const int MaximumPending = 32;
    /// <summary>The context of the call's target, until a child of it takes a dead one's place.</summary>
    public const uint Target = 0;
    public const uint NoContext = uint.MaxValue;

    public KernelEntry Call;
    public ControlPage* Control;
    /// <summary>Tells what was inherited besides the range, while that is still to be given up; then null.</summary>
    public HolderBootArguments* Postponed;

    /// <summary>The guardian applying what it found in the message buffer: an event may be there that was half applied already.</summary>
    public bool Recovering;
    /// <summary>A guardian in the place of its holder: there is no other one.</summary>
    public bool IsGuardian;
    /// <summary>The last of all: it has neither the range nor the source's memory.</summary>
    public bool IsSentinel;
    /// <summary>In the sentinel: the target is about to drop the region's first page, which tells of a move that will not be.</summary>
    public bool Announced;
    /// <summary>A madvise() of ours failed: pages stay in the holder after delivery, so the page table is no list of what is left.</summary>
    public bool DropFailed;
    /// <summary>The kernel was short of memory: pause before trying again.</summary>
    public bool Backoff;
    /// <summary>A bit for each context whose event could not be read for want of a descriptor, or of memory: its userfaultfd stays readable.</summary>
    public ulong Unread;
    /// <summary>How often a page could be neither delivered nor poisoned.</summary>
    public uint Withheld;
    /// <summary>The same when the run of pages was begun that the background fill is at: it may take several attempts.</summary>
    public uint WithheldBefore;
    /// <summary>Every entry of the segment table below this one is in use.</summary>
    public uint FirstFree;

    /// <summary>Room in the tables; the tests make it small.</summary>
    public uint SegmentLimit;
    public uint ContextLimit;

    // The background fill.
    public FillPass Pass;
    public ulong Cursor;
    public bool FoundInPass;
    public bool FillEnded;
    /// <summary>Up to where the populated pages have been counted (<see cref="Loop.CountLater"/>); 0 when all have been.</summary>
    public ulong Counted;
    public ulong CountedBytes;
    /// <summary>Bytes of the range in which they are counted in one go, while nobody is served; the tests make it small.</summary>
    public ulong CountSlice;

    /// <summary>The source of a move has gone: its pidfd is readable from then on, and nothing to wait for.</summary>
    public bool SourceExited;
    /// <summary>Its other memory has gone too.</summary>
    public bool SourceReleased;
    public uint TurnsSinceLook;
    /// <summary>Delivered pages that wait for the end of their huge page before they are dropped.</summary>
    public ulong DropStart;
    public ulong DropEnd;

    /// <summary>For each context, up to which source address of this pass it has been served: an interrupted batch goes on there.</summary>
    public DeliveredPositions Delivered;

    /// <summary>What each context has got while there were several, and up to which page of the range that was looked through since something was last forgotten.</summary>
    public ReceiptTable Receipts;
    public bool HasReceipts;
    public ulong LookedThrough;

    /// <summary>Bytes of the next batch: few while faults come, more and more while none do.</summary>
    public ulong Batch;
    /// <summary>Batches since the last fault.</summary>
    public uint QuietBatches;

    /// <summary>Rounds of the loop in which the background fill waits for another fault, and how many there were since the last batch.</summary>
    public uint RoundsToWait;
    public uint FaultsInARow;

    /// <summary>Bytes of the pieces that are to be dropped.</summary>
    public ulong DeliveredBytes;

    /// <summary>Empty rounds of the loop before the holder sleeps; how often it has slept since a fault came before that.</summary>
    public uint SpinRounds;
    public uint Sleeps;

    /// <summary>What may be delivered behind the page that was asked for last, when nobody waits; 0 bytes for nothing.</summary>
    public ulong AroundPage;
    public ulong AroundBytes;
    public uint AroundContext;

    /// <summary>The target's mem, for as long as huge pages are written through it (<see cref="HugePageFill"/>); 0 otherwise.</summary>
    public int TargetMemory;

    /// <summary>The second thread of the background fill.</summary>
    public WorkerState Worker;

    public uint OldestStream;
    public FaultStreamTable Streams;

    /// <summary>Faults that wait for an event to be read.</summary>
    public uint PendingCount;
    public PendingFaults Pending;

    public readonly ControlContext* Contexts => (ControlContext*)((byte*)Control + ControlPage.ContextsOffset);

    public readonly ControlSegment* Segments => (ControlSegment*)((byte*)Control + ControlPage.SegmentsOffset);

    public readonly UserfaultMessage* Messages => (UserfaultMessage*)((byte*)Control + ControlPage.MessagesOffset);

    public readonly DeliveredPiece* DeliveredPieces => (DeliveredPiece*)((byte*)Control + ControlPage.DeliveredOffset);

    public readonly LateUnmap* LateUnmaps => (LateUnmap*)((byte*)Control + ControlPage.LateUnmapsOffset);

    public static void Initialize(Service* service, KernelEntry call, ControlPage* control)
    {
        service->Call = call;
        service->Control = control;
        service->Postponed = null;
        service->Recovering = false;
        service->IsGuardian = false;
        service->IsSentinel = false;
        service->Announced = false;
        service->Counted = 0;
        service->CountedBytes = 0;
        service->CountSlice = Loop.CountSlice;
        service->SourceExited = false;
        service->SourceReleased = false;
        service->TurnsSinceLook = 0;
        service->DropFailed = false;
        service->Backoff = false;
        service->Unread = 0;
        service->Withheld = 0;
        service->WithheldBefore = 0;
        service->FirstFree = 0;
        service->SegmentLimit = ControlPage.MaximumSegments;
        service->ContextLimit = ControlPage.MaximumContexts;
        service->Pass = FillPass.Present;
        service->Cursor = control->SourceStart;
        service->FoundInPass = false;
        service->FillEnded = false;
        service->DropStart = 0;
        service->DropEnd = 0;
        service->PendingCount = 0;
        service->Receipts = default;
        service->HasReceipts = false;
        service->LookedThrough = 0;
        service->Batch = 0;
        service->QuietBatches = 0;
        service->RoundsToWait = 0;
        service->FaultsInARow = 0;
        service->DeliveredBytes = 0;
        service->SpinRounds = Spin.Most;
        service->Sleeps = 0;
        service->AroundPage = 0;
        service->AroundBytes = 0;
        service->AroundContext = 0;
        service->TargetMemory = 0;
        service->Worker = default;
        service->Worker.Grain = ControlPage.HugePageBytes;
        FaultStreams.Reset(service);
        ResetDelivered(service);
    }

    /// <summary>Begins a pass of the background fill.</summary>
    public static void ResetDelivered(Service* service)
    {
        for (uint i = 0; i < ControlPage.MaximumContexts; i++)
            (&service->Delivered.First)[i] = 0;
    }

    /// <summary>Counts an unexpected failure.</summary>
    public static void Report(Service* service, long error)
    {
        service->Control->LastError = error;
        service->Control->Errors++;
    }

    public static bool IsAlive(Service* service, uint context) => service->Contexts[context].Alive != 0;

    public static uint CountAlive(Service* service)
    {
        uint alive = 0;
        for (uint i = 0; i < service->Control->ContextCount; i++)
        {
            if (IsAlive(service, i))
                alive++;
        }
        return alive;
    }
}

/// <summary>Room for <see cref="Service.MaximumPending"/> entries of type <see cref="PendingFault"/>.</summary>
[StructLayout(LayoutKind.Sequential, Size = Service.MaximumPending * 16)]
internal struct PendingFaults
{
    public PendingFault First;
}

[StructLayout(LayoutKind.Sequential, Size = ControlPage.MaximumContexts * 8)]
internal struct DeliveredPositions
{
    public ulong First;
}

[StructLayout(LayoutKind.Sequential, Size = 16)]
internal struct PendingFault
{
    public ulong Address;
    public uint Context;
}

internal enum FillPass
{
    /// <summary>Pages in memory, so that none waits behind a page that has to come from swap.</summary>
    Present,
    /// <summary>All of them, again and again until a whole pass finds none.</summary>
    All,
}
