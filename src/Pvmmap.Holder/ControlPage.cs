using System.Runtime.InteropServices;

namespace Pvmmap.Holder;

/// <summary>
/// The memory shared by a holder, its guardian and whoever follows the fill: a memfd named <see cref="MemfdName"/>, <see cref="Size"/> bytes,
/// open in the holder as descriptor <see cref="HolderFds.Control"/>. Written by the holder (and by the guardian once the holder is gone);
/// followers read it and may set <see cref="Command"/> bits. Compiled into the library and into the freestanding code alike.
/// </summary>
[StructLayout(LayoutKind.Explicit, Size = 0x1000)]
internal unsafe struct ControlPage
{
    public const string MemfdName = "pvmmap-control";
    public const ulong MagicValue = 0x50414d_4d5650UL; // "PVMMAP"
    public const uint CurrentVersion = 2;
    public const int Size = 512 * 1024;
    public const int ContextsOffset = 0x1000;
    public const int MaximumContexts = 64;
    public const int SegmentsOffset = 0x2000;
    public const int MaximumProbes = 64;
    public const int MaximumSegments = (Size - SegmentsOffset) / 32;

    /// <summary>Bytes in a transparent huge page that a page table of 4 KiB pages could stand for (PMD_SIZE).</summary>
    public const ulong HugePageBytes = 2 * 1024 * 1024;

    [FieldOffset(0x00)] public ulong Magic;
    [FieldOffset(0x08)] public uint Version;
    /// <summary>One of <see cref="ControlState"/>.</summary>
    [FieldOffset(0x0c)] public uint State;
    /// <summary>Bits of <see cref="ControlCommand"/>, set by followers, never cleared.</summary>
    [FieldOffset(0x10)] public uint Command;
    /// <summary>1: fill on touch only, until <see cref="ControlCommand.FinishNow"/>.</summary>
    [FieldOffset(0x14)] public uint Lazy;
    /// <summary>Process numbers as the caller's pid namespace has them.</summary>
    [FieldOffset(0x18)] public int SourcePid;
    [FieldOffset(0x1c)] public int TargetPid;
    [FieldOffset(0x20)] public int HolderPid;
    /// <summary>As the holder's own pid namespace has it; 0 until the guardian stands.</summary>
    [FieldOffset(0x24)] public int GuardianPid;
    /// <summary>CLOCK_MONOTONIC, nanoseconds: the unit of Stopwatch.GetTimestamp on Linux.</summary>
    [FieldOffset(0x28)] public ulong StartedAt;
    [FieldOffset(0x30)] public ulong EndedAt;
    /// <summary>
    /// Where the pages lie in the holder's own address space: a copy has them where the source had them, a move at a place that the source does
    /// not know. Whole pages.
    /// </summary>
    [FieldOffset(0x38)] public ulong SourceStart;
    [FieldOffset(0x40)] public ulong SourceLength;
    /// <summary>Where the region is first registered, and where the call will have put it when it returns.</summary>
    [FieldOffset(0x48)] public ulong PlacedAt;
    [FieldOffset(0x50)] public ulong DestinationStart;
    /// <summary>Largest background batch, bytes, a multiple of the page size.</summary>
    [FieldOffset(0x58)] public ulong BatchBytes;

    /// <summary>1: some of the range is protected against reading, which the holder has to lift in its copy.</summary>
    [FieldOffset(0x60)] public uint Unreadable;

    /// <summary>1: a move. The holder shares the source's memory instead of having a copy of it.</summary>
    [FieldOffset(0x64)] public uint Move;
    /// <summary>First address of the range in the source.</summary>
    [FieldOffset(0x68)] public ulong TakenFrom;

    // Counters.
    /// <summary>Populated bytes (present or swapped, not the zero page) that the range had when the holder was made; until they have been counted, all of the range.</summary>
    [FieldOffset(0x80)] public ulong BytesTotal;
    /// <summary>Bytes of those that are in place or no longer owed.</summary>
    [FieldOffset(0x88)] public ulong BytesDone;
    [FieldOffset(0x90)] public ulong Faults;
    [FieldOffset(0x98)] public ulong ZeroFaults;
    [FieldOffset(0xa0)] public ulong Forks;
    [FieldOffset(0xa8)] public ulong Remaps;
    [FieldOffset(0xb0)] public ulong Removes;
    [FieldOffset(0xb8)] public ulong Unmaps;
    [FieldOffset(0xc0)] public ulong Retries;
    [FieldOffset(0xc8)] public ulong PoisonedPages;
    /// <summary>Negated errno of the last unexpected failure, and how many there were.</summary>
    [FieldOffset(0xd0)] public long LastError;
    [FieldOffset(0xd8)] public ulong Errors;

    // Tables behind this page.
    [FieldOffset(0x100)] public uint ContextCount;
    [FieldOffset(0x104)] public uint SegmentCount;

    /// <summary>Index of the context whose messages lie at <see cref="MessagesOffset"/>.</summary>
    [FieldOffset(0x108)] public uint MessageContext;
    /// <summary>1: some page can be neither delivered nor poisoned; the holder stays, so that who touches it waits instead of reading zeros.</summary>
    [FieldOffset(0x10c)] public uint Withheld;

    /// <summary>
    /// 1: the call is still being made, and the background fill would only get in its way. It is over when the caller says so over the boot
    /// socket, or is gone; then the socket's number may be that of a child's userfaultfd.
    /// </summary>
    [FieldOffset(0x160)] public uint CallIsOpen;

    /// <summary>As the caller's pid namespace has it; 0: none.</summary>
    [FieldOffset(0x164)] public int SentinelPid;

    /// <summary>Bits of what the kernel is to be taken not to have: KernelFeature.</summary>
    [FieldOffset(0x168)] public uint Without;

    /// <summary>One past the highest address that a program can have: TASK_SIZE, or what mmap() takes without a hint.</summary>
    [FieldOffset(0x170)] public ulong AddressSpaceEnd;

    /// <summary>How many pieces lie at <see cref="DeliveredOffset"/>.</summary>
    [FieldOffset(0x178)] public uint DeliveredCount;

    /// <summary>0: nothing lies at <see cref="LateUnmapsOffset"/>, and no segment is parked.</summary>
    [FieldOffset(0x17c)] public uint Unsettled;

    /// <summary>
    /// The target, as the holder's own pid namespace has it, for as long as it may write to it by its number: not known, not allowed, or not to be done, 0.
    /// </summary>
    [FieldOffset(0x180)] public int TargetOwnPid;

    // A move: all in the source's address space, which is the holder's and the guardian's too.
    /// <summary>The mapping of the code and its stacks.</summary>
    [FieldOffset(0x110)] public ulong ImageStart;
    [FieldOffset(0x118)] public ulong ImageLength;
    /// <summary>The place kept for the pages, with a page in front of and behind <see cref="SourceStart"/> and <see cref="SourceLength"/>.</summary>
    [FieldOffset(0x120)] public ulong ReservedStart;
    [FieldOffset(0x128)] public ulong ReservedLength;
    /// <summary>1: the target has the region, so the pages go, whatever dies.</summary>
    [FieldOffset(0x130)] public uint Committed;
    /// <summary>Bytes of the range that have gone to <see cref="SourceStart"/>, and the piece that is on its way.</summary>
    [FieldOffset(0x138)] public ulong Moved;
    [FieldOffset(0x140)] public ulong Moving;
    /// <summary>Process numbers as the holder's own pid namespace has them; 0 if not known.</summary>
    [FieldOffset(0x148)] public int SourceOwnPid;
    [FieldOffset(0x14c)] public int HolderOwnPid;
    /// <summary>
    /// Lowest addresses of the source's memory, free, for the first pages of the VMAs that the segment table lists by their
    /// <see cref="ControlSegment.Destination"/>: two pages for each. 0: no such probe. How many are there, and what guards their places.
    /// </summary>
    [FieldOffset(0x150)] public ulong ProbeArea;
    [FieldOffset(0x158)] public uint Probed;
    [FieldOffset(0x15c)] public int ProbeGuard;

    /// <summary>For tests: the <see cref="FillStep"/> to stop at, and the one that has been stopped at. Only a build with PVMMAP_STEPS looks here.</summary>
    [FieldOffset(0x1f8)] public uint StopAt;
    [FieldOffset(0x1fc)] public uint StoppedAt;

    /// <summary>
    /// Where the holder reads userfaultfd messages to: a message taken from the kernel is gone from it, so if the holder dies before it has
    /// acted on one, the guardian finds it here. The event byte of a message is 0 once it has been acted on.
    /// </summary>
    public const int MessagesOffset = 0x200;
    public const int MaximumMessages = 16;

    /// <summary>
    /// Pieces of the range that have been delivered to whoever waited for them, and are to be dropped: <see cref="DeliveredCount"/> of
    /// <see cref="DeliveredPiece"/>. Here and not in the holder's own memory, for the guardian that goes on after a move.
    /// </summary>
    public const int DeliveredOffset = 0x400;
    public const int MaximumDelivered = 64;

    /// <summary>Second events of mremap() calls that are still to come, each a <see cref="LateUnmap"/>. Here for the same reason.</summary>
    public const int LateUnmapsOffset = 0x800;
    public const int MaximumLateUnmaps = 64;
}

/// <summary>A place that mremap() has taken memory from. The event that says so comes when others may have put theirs there.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct LateUnmap
{
    public ulong Start;
    /// <summary>Bytes; 0 marks a free entry.</summary>
    public ulong Length;
    public uint Context;
}

/// <summary>A piece of the range, in the holder's address space.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct DeliveredPiece
{
    public ulong Start;
    public ulong End;
}

/// <summary>A userfaultfd that the holder serves: the target's own, then one for each child that the target forked meanwhile.</summary>
[StructLayout(LayoutKind.Explicit, Size = 16)]
internal struct ControlContext
{
    [FieldOffset(0)] public int Fd;
    /// <summary>0 once that address space is gone.</summary>
    [FieldOffset(4)] public uint Alive;
    /// <summary>1: its segments may list pieces that are not there any more.</summary>
    [FieldOffset(8)] public uint IsInexact;
}

/// <summary>A piece of some target address space and where its content lies in the holder.</summary>
[StructLayout(LayoutKind.Explicit, Size = 32)]
internal struct ControlSegment
{
    [FieldOffset(0)] public ulong Destination;
    [FieldOffset(8)] public ulong Source;
    /// <summary>Bytes; 0 marks a free entry.</summary>
    [FieldOffset(16)] public ulong Length;
    [FieldOffset(24)] public uint Context;
    /// <summary>
    /// 0: the source's content. 1: the target dropped these pages (MADV_DONTNEED): zero-fill, never the source's content.
    /// 2: nothing is known of them any more, the tables were full: to be poisoned. 3: moved away by mremap(): zero-fill, if still mapped at all.
    /// 4 more: something else has come to their place, so they have gone to another; the event that says where is still to come.
    /// </summary>
    [FieldOffset(28)] public uint Zero;

    /// <summary>3: zeros too, but never unregistered, for it may lie in somebody else's mapping: vacated by mremap, or room for a stack to grow.</summary>
    public const uint NotOurs = 3;
}

internal static class ControlState
{
    public const uint Starting = 0;
    public const uint Serving = 1;
    public const uint Complete = 2;
    public const uint TargetGone = 3;
    public const uint Lost = 4;
    /// <summary>A move: all is ready, and nothing of the source changed, until the target takes the region.</summary>
    public const uint Prepared = 5;

    /// <summary>True if a fill ends in this state.</summary>
    public static bool IsFinal(uint state) => state is Complete or TargetGone or Lost;
}

internal static class ControlCommand
{
    /// <summary>Fill in the background even if lazy.</summary>
    public const uint FinishNow = 1;
}

/// <summary>The holder's descriptors after its boot; the numbers are fixed so that others can find them under /proc/PID/fd.</summary>
internal static class HolderFds
{
    public const int Socket = 0;
    public const int Control = 1;
    public const int Pagemap = 2;
    /// <summary>A move: the source's pidfd, and /proc.</summary>
    public const int SourcePidfd = 3;
    public const int Proc = 4;
    public const int Userfaultfd = 5;
    /// <summary>A socket to the sentinel. It closes with the table that holder and guardian share.</summary>
    public const int Lifeline = 6;
    /// <summary>The guardian's view of the holder: a pidfd.</summary>
    public const int HolderPidfd = 7;
}
