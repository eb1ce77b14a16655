using System.Globalization;
using System.Runtime.InteropServices;
using Pvmmap.Linux;
using Pvmmap.Remote;

namespace Pvmmap.Holder;

/// <summary>What a process that runs our code is there for.</summary>
/// <param name="Range">The source range that it holds; nothing of a snapshot's keeper.</param>
/// <param name="Moves">A move: it shares the source's memory.</param>
/// <param name="KeptBytes">Of a snapshot's keeper: bytes of the description that it reads, whole pages; 0 for others.</param>
/// <param name="Postpones">Of a fork: what it has inherited besides the range is not much, and is given up only behind the call.</param>
internal readonly record struct HolderTask(PageRange Range, bool Moves = false, ulong KeptBytes = 0, bool Postpones = false);

/// <summary>Brings our code into a child and lets it run there.</summary>
internal static unsafe class HolderLoader
{
    public const ulong ArgumentsRoom = 0x400;

    /// <summary>What it is called where it fails.</summary>
    public const string Doing = "load the holder";

    private static uint marks;

    private static ulong CodeBytes => (ulong)(HolderImage.InThisProcess.Code.Length + (int)PageRange.PageSize - 1) & ~(PageRange.PageSize - 1);

    /// <summary>Bytes of code, arguments and stacks: whole pages.</summary>
    private static ulong RoomBytes => CodeBytes + HolderBootArguments.StackBytes;

    /// <summary>Maps room for code, arguments and stacks in this process, which is about to be forked.</summary>
    public static PageRange MapHere()
    {
        ulong image = (ulong)Memory.Map(0, RoomBytes, Memory.PROT_READ | Memory.PROT_WRITE, Memory.MAP_PRIVATE | Memory.MAP_ANONYMOUS)
            .OrThrow("map the holder's memory");
        return new PageRange(image, image + RoomBytes);
    }

    /// <summary>Fills that room.</summary>
    /// <param name="image">The room.</param>
    /// <param name="task">What the child will do.</param>
    /// <param name="socket">Its end of the boot socket.</param>
    /// <param name="top">Where the arguments are, and the stack begins.</param>
    public static HolderBootArguments PrepareHere(PageRange image, HolderTask task, int socket, out ulong top)
    {
        HolderImage code = HolderImage.InThisProcess;
        if (!SentinelProcess.TryMapCode(image.Start, CodeBytes))
        {
            code.Code.CopyTo(new Span<byte>((void*)image.Start, code.Code.Length));
            Memory.Protect(image.Start, CodeBytes, Memory.PROT_READ | Memory.PROT_EXEC).OrThrow("make the holder's code executable");
        }
        top = image.End - ArgumentsRoom;
        HolderBootArguments arguments = BootArguments(code.At(image.Start), image.Start, image.Length, task, socket);
        *(HolderBootArguments*)top = arguments;
        return arguments;
    }

    private static HolderBootArguments BootArguments(HolderImage image, ulong at, ulong bytes, HolderTask task, int socket) => new()
    {
        Syscall = image.SyscallStub,
        ImageStart = at,
        ImageLength = bytes,
        SourceStart = task.Range.Start,
        SourceLength = task.Range.Length,
        Socket = socket,
        Move = task.Moves ? 1UL : 0,
        Keep = task.KeptBytes,
        Postpones = task.Postpones ? 1UL : 0,
        Without = KernelFeatures.Without,
        AddressSpaceEnd = Processor.AddressSpaceEnd,
        Mark = ((ulong)Environment.ProcessId << 32) | Interlocked.Increment(ref marks),
    };

    /// <summary>
    /// Lets a child with a memory of its own, which stands still under the tracer on a trampoline of its own, make itself ready for the code: it gives up what it is not
    /// there for, maps room and makes its sockets. It runs until <see cref="Load"/>.
    /// </summary>
    /// <param name="child">The child.</param>
    /// <param name="kept">Its source range; null for one that keeps all that it has, or gives it up later.</param>
    public static void BeginSettling(RemoteThread child, PageRange? kept)
    {
        ulong trampoline = TrampolineOf(child);
        Settling data = Settling.Of(kept, new PageRange(trampoline, trampoline + Trampoline.Length), RoomBytes, CodeBytes);
        Check(Memory.WriteTo(child.Tid, trampoline + Trampoline.SettlingDataOffset, MemoryMarshal.AsBytes(new ReadOnlySpan<Settling>(in data))), child.Tid);
        Check(child.ContinueWith(child.Saved with { Rip = trampoline + Trampoline.SettlingOffset, OrigRax = ulong.MaxValue }), child.Tid);
    }

    private static ulong TrampolineOf(RemoteThread child) => child.Instruction - Trampoline.SyscallOffset;

    private static Settling AwaitSettled(RemoteThread child)
    {
        int signal = child.AwaitSignal();
        if (signal == 0) Check(Errno.ESRCH, child.Tid);
        if (signal != Signals.SIGTRAP)
            throw new PvmmapException(Errno.EAGAIN, Doing, child.Tid, hint: string.Create(CultureInfo.InvariantCulture, $"it was stopped by signal {signal}"));
        Settling data = default;
        Check(Memory.ReadFrom(child.Tid, TrampolineOf(child) + Trampoline.SettlingDataOffset, MemoryMarshal.AsBytes(new Span<Settling>(ref data))), child.Tid);
        return data;
    }

    /// <summary>Puts the code into a child that <see cref="BeginSettling"/> has let go, and lets it run there. Returns our end of its socket.</summary>
    public static FileDescriptor Load(RemoteThread child, FileDescriptor pidfd, HolderTask task)
    {
        HolderImage code = HolderImage.InThisProcess;
        Settling settled = AwaitSettled(child);
        if (task.Postpones && new SyscallResult(settled.Room).Errno == Errno.ENOMEM)
        {
            // Not beside all that it has inherited: RLIMIT_AS, RLIMIT_DATA, vm.max_map_count.
            task = task with { Postpones = false };
            BeginSettling(child, task.Range);
            settled = AwaitSettled(child);
        }
        ulong image = (ulong)new SyscallResult(settled.Room).OrThrow(Doing, child.Tid), arguments = image + RoomBytes - ArgumentsRoom;
        Step.Reached(CallStep.ImageMapped, child.Tid);
        Span<int> pair = [settled.TheirSocket, settled.OurSocket];
        if (settled.Pairing != 0) MakeSockets(child, arguments, new SyscallResult(settled.Pairing), pair);
        FileDescriptor socket = TakeSocket(child, pidfd, pair, arguments);
        try
        {
            HolderBootArguments boot = BootArguments(code.At(image), image, RoomBytes, task, pair[0]);
            Check(Memory.WriteTo(child.Tid, image, code.Code, arguments, new ReadOnlySpan<byte>(&boot, sizeof(HolderBootArguments))), child.Tid);
            Step.Reached(CallStep.ImageLoaded, child.Tid);
            Check(child.DetachWith(OnCode(child, code.At(image).Boot, arguments) with
            {
                // No longer writable on the way there.
                Rip = TrampolineOf(child) + Trampoline.LaunchOffset,
                Rax = (ulong)SystemCall.SYS_mprotect,
                Rdi = image,
                Rsi = CodeBytes,
                Rdx = (ulong)(Memory.PROT_READ | Memory.PROT_EXEC),
                R12 = arguments,
                R13 = code.At(image).Boot,
            }), child.Tid);
            Step.Reached(CallStep.HolderLaunched, child.Tid);
            return socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>The same for a child that shares the memory of <paramref name="source"/>, which stands still: the image lies there.</summary>
    public static FileDescriptor LoadShared(RemoteThread child, FileDescriptor pidfd, HolderTask task, StoppedProcess source, out PageRange where, out ulong mark)
    {
        HolderImage code = HolderImage.InThisProcess;
        // The source maps it, so that it is the source's to unmap from the same instant, should this process be killed.
        SyscallResult mapped = source.InvokeUndoable(SystemCall.SYS_munmap, (long)RoomBytes, out int undo,
            SystemCall.SYS_mmap, 0, (long)RoomBytes, Memory.PROT_READ | Memory.PROT_WRITE, Memory.MAP_PRIVATE | Memory.MAP_ANONYMOUS, -1, 0);
        ulong image = (ulong)mapped.OrThrow(Doing, child.Tid);
        where = new PageRange(image, image + RoomBytes);
        mark = 0;
        Step.Reached(CallStep.ImageMapped, child.Tid);
        try
        {
            FileDescriptor socket = LoadShared(child, pidfd, task, code, where, source, out ulong arguments, out mark);
            try
            {
                Step.Reached(CallStep.ImageLoaded, child.Tid);
                // From here on the child itself takes the image away again.
                source.ClearUndo(undo);
                Check(child.DetachWith(OnCode(child, code.At(image).Boot, arguments)), child.Tid);
                Step.Reached(CallStep.HolderLaunched, child.Tid);
                return socket;
            }
            catch
            {
                socket.Dispose();
                throw;
            }
        }
        catch
        {
            source.Invoke(SystemCall.SYS_munmap, (long)image, (long)RoomBytes);
            throw;
        }
    }

    private static FileDescriptor LoadShared(
        RemoteThread child, FileDescriptor pidfd, HolderTask task, HolderImage code, PageRange image, StoppedProcess source, out ulong arguments, out ulong mark)
    {
        Check(Memory.WriteTo(child.Tid, image.Start, code.Code), child.Tid);
        // By the source itself: it must not stand behind its undoable call any more when the image is the child's.
        source.Invoke(SystemCall.SYS_mprotect, (long)image.Start, (long)CodeBytes, Memory.PROT_READ | Memory.PROT_EXEC).OrThrow(Doing, child.Tid);

        arguments = image.End - ArgumentsRoom;
        Span<int> pair = stackalloc int[2];
        MakeSockets(child, arguments, MakePair(child, arguments), pair);
        FileDescriptor socket = TakeSocket(child, pidfd, pair, arguments);
        try
        {
            HolderBootArguments boot = BootArguments(code.At(image.Start), image.Start, image.Length, task, pair[0]);
            mark = boot.Mark;
            Check(Memory.WriteTo(child.Tid, arguments, new ReadOnlySpan<byte>(&boot, sizeof(HolderBootArguments))), child.Tid);
            return socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    // It has its own table by now: a source without a free descriptor is no obstacle. As many as are needed here; it closes the others by itself.
    private static void MakeRoom(RemoteThread child, ReadOnlySpan<int> wanted)
    {
        for (int number = 3; number < 6; number++)
            if (!wanted.Contains(number)) child.Invoke(SystemCall.SYS_close, number);
    }

    // Done already, or once more with room for them.
    private static void MakeSockets(RemoteThread child, ulong scratch, SyscallResult made, Span<int> pair)
    {
        if (made.Errno == Errno.EMFILE)
        {
            MakeRoom(child, default);
            made = MakePair(child, scratch);
        }
        made.OrThrow(Doing, child.Tid, hint: made.Errno == Errno.EMFILE ? "it has no descriptor left (RLIMIT_NOFILE)" : "it could not make a pair of sockets");
        Check(Memory.ReadFrom(child.Tid, scratch, MemoryMarshal.AsBytes(pair)), child.Tid);
    }

    private static SyscallResult MakePair(RemoteThread child, ulong pair) =>
        child.Invoke(SystemCall.SYS_socketpair, UnixSocket.AF_UNIX, UnixSocket.SOCK_SEQPACKET | UnixSocket.SOCK_CLOEXEC, 0, (long)pair);

    private static FileDescriptor TakeSocket(RemoteThread child, FileDescriptor pidfd, ReadOnlySpan<int> pair, ulong scratch)
    {
        SyscallResult taken = Linux.Pidfd.GetFd(pidfd, pair[1]);
        if (!SentDescriptor.IsNeeded(taken)) return FileDescriptor.From(taken, Doing, child.Tid);
        MakeRoom(child, pair);
        SyscallResult own = child.Invoke(SystemCall.SYS_socket, UnixSocket.AF_UNIX, UnixSocket.SOCK_DGRAM | UnixSocket.SOCK_CLOEXEC);
        if (!own.Failed) taken = SentDescriptor.Take(child.Tid, own.Value, scratch, pair[1], child.Invoke);
        if (!own.Failed) child.Invoke(SystemCall.SYS_close, own.Value);
        return FileDescriptor.From(taken, Doing, child.Tid,
            "there is no pidfd_getfd (before Linux 5.6, or behind the caller's seccomp filter), and the source cannot send to the caller: allow the call, or put both into one network namespace");
    }

    /// <summary>The registers with which a child begins on our code.</summary>
    private static Ptrace.Registers OnCode(RemoteThread child, ulong boot, ulong arguments) => child.Saved with
    {
        Rip = boot,
        Rdi = arguments,
        Rsp = arguments - 8, // as behind a call: 16-aligned plus 8
        Rbp = 0,
        Rax = 0,
        OrigRax = ulong.MaxValue,
    };

    private static void Check(Errno errno, int pid)
    {
        if (errno != Errno.None) throw new PvmmapException(errno == Errno.ESRCH ? Errno.EAGAIN : errno, Doing, pid, hint: "it was killed");
    }
}
