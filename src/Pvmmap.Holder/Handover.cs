using System.Runtime.InteropServices;

namespace Pvmmap.Holder;

/// <summary>What <c>holder_boot</c> is given: it lies in the holder's private memory, above the code.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct HolderBootArguments
{
    /// <summary>Address of the system call stub (first bytes of the image).</summary>
    public ulong Syscall;
    /// <summary>Address and length of the one mapping that holds code, these arguments and the stack. Everything else but the range goes.</summary>
    public ulong ImageStart;
    public ulong ImageLength;
    /// <summary>The source range that this process keeps.</summary>
    public ulong SourceStart;
    public ulong SourceLength;
    /// <summary>The holder's end of the boot socket (SOCK_SEQPACKET).</summary>
    public long Socket;
    /// <summary>1: a move. This process shares the source's memory, and the image lies in it.</summary>
    public ulong Move;
    /// <summary>The control page; set by the holder for its guardian.</summary>
    public ulong Control;
    /// <summary>Bits of what the kernel is to be taken not to have: KernelFeature.</summary>
    public ulong Without;
    /// <summary>As <see cref="ControlPage.AddressSpaceEnd"/>.</summary>
    public ulong AddressSpaceEnd;
    /// <summary>Of this holder alone: whether its image is still there can be told by it.</summary>
    public ulong Mark;
    /// <summary>Not 0: this process keeps a snapshot. Bytes of the description that it maps: whole pages with a <see cref="KeeperHeader"/> in front.</summary>
    public ulong Keep;
    /// <summary>Not 0: what it has inherited besides the range, not much, is given up only behind the call.</summary>
    public ulong Postpones;

    /// <summary>Bytes at the end of the image for the stacks: last that of the holder, below it, in a move, that of its guardian, and first that of the second thread of the fill.</summary>
    public const ulong StackBytes = HolderStackBytes + GuardianStackBytes + WorkerStackBytes;
    public const ulong HolderStackBytes = 32 * 1024;
    public const ulong WorkerStackBytes = 8 * 1024;
    private const ulong GuardianStackBytes = 32 * 1024;
}

/// <summary>
/// What the description of a snapshot begins with: a memfd, open in the snapshot's keeper as descriptor <see cref="HolderFds.Control"/>. Behind it
/// <see cref="DropCount"/> pairs of addresses, start and end, that the keeper unmaps, and at <see cref="TextOffset"/> what else is known of the process.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KeeperHeader
{
    public const ulong MagicValue = 0x31504e53_4d5650UL; // "PVMSNP1"

    public ulong Magic;
    /// <summary>Ranges to be unmapped.</summary>
    public ulong DropCount;
    /// <summary>Bytes from the start of the file to the text, and of the text (JSON, UTF-8).</summary>
    public ulong TextOffset;
    public ulong TextLength;
    /// <summary>The process that the snapshot goes with, in its own pid namespace; 0 when it has been detached.</summary>
    public int OwnerPid;
    public int Reserved;
}

/// <summary>What is said over the boot socket of a snapshot's keeper.</summary>
internal static class KeeperMessage
{
    /// <summary>With the description.</summary>
    public const byte Begin = (byte)'C';

    /// <summary>From the keeper: it has done what was said.</summary>
    public const byte Ready = (byte)'R';

    /// <summary>From the keeper, which ends: it has no room for the description.</summary>
    public const byte NoRoom = (byte)'N';

    /// <summary>Stay when the socket is closed.</summary>
    public const byte Detach = (byte)'D';
}

/// <summary>What <c>sentinel_become</c> is given.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct SentinelArguments
{
    public ulong Syscall;
    public long Socket;
    public long Program;
    /// <summary>Bits of what the kernel is to be taken not to have: KernelFeature.</summary>
    public ulong Without;
    /// <summary>The command line, zero-ended.</summary>
    public NameBytes Name;
    /// <summary>Result: why it could not become the program, a negated errno; 0 if it has.</summary>
    public long Error;
    /// <summary>A futex. 1 as long as the child may use this memory; the kernel sets it to 0 when the child has its own, or is gone (set_tid_address(2)).</summary>
    public uint IsHere;
}

/// <summary>Room for a short text.</summary>
[StructLayout(LayoutKind.Sequential, Size = 64)]
internal struct NameBytes
{
    public byte First;
}

/// <summary>The mailbox through which a thread of the caller has system calls run by the tracer process.</summary>
[StructLayout(LayoutKind.Explicit, Size = 128)]
internal struct TracerMailbox
{
    /// <summary>Sequence number of the latest request (futex); the tracer answers by copying it to <see cref="Answer"/>.</summary>
    [FieldOffset(0)] public uint Request;
    [FieldOffset(64)] public uint Answer;
    /// <summary>System call number; <see cref="Stop"/> ends the tracer.</summary>
    [FieldOffset(8)] public long Number;
    [FieldOffset(16)] public long A1;
    [FieldOffset(24)] public long A2;
    [FieldOffset(32)] public long A3;
    [FieldOffset(40)] public long A4;
    [FieldOffset(48)] public long Result;
    /// <summary>The caller's process id: if getppid() differs the caller is gone already.</summary>
    [FieldOffset(72)] public int CallerPid;
    [FieldOffset(80)] public ulong Syscall;
    [FieldOffset(88)] public ulong CloneCall;
    /// <summary>How often caller or tracer has yielded its processor and not soon got it back.</summary>
    [FieldOffset(96)] public uint SlowYields;
    /// <summary>How often the tracer looks, and yields its processor, before it sleeps over the latest request, or behind it.</summary>
    [FieldOffset(100)] public uint SpinRounds;

    /// <summary>
    /// With so many, other programs want the processors: whoever yields comes behind them, whoever sleeps does not when it is woken. Fewer are our own
    /// doing: a fork takes its time on one of two processors.
    /// </summary>
    public const uint TooManySlowYields = 4;
    /// <summary>Nanoseconds from which on a yield is slow.</summary>
    public const ulong SlowYield = 250_000;

    /// <summary>Some hundred microseconds: to be woken from a sleep takes longer than most answers.</summary>
    public const uint FewRounds = 500;

    public const long Stop = -1;

    /// <summary>A1 points to A2 <see cref="TracerRequest"/>s: run in order up to the first that fails. Result: how many succeeded.</summary>
    public const long List = -2;

    /// <summary>A child: A1 its stack's top, A2 what it calls, A3 with what, A4 the flags of clone(2). Result: its pid.</summary>
    public const long Spawn = -3;
}

/// <summary>One of several system calls that the tracer runs in a row, which saves waking it for each.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct TracerRequest
{
    public long Number;
    public long A1;
    public long A2;
    public long A3;
    public long A4;
    public long Result;
}
