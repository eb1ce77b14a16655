using Pvmmap.Linux;
using Pvmmap.Remote;

namespace Pvmmap.Holder;

/// <summary>What a process that runs our code is there for.</summary>
/// <param name="Range">The source range that it holds; nothing of a snapshot's keeper.</param>
/// <param name="Moves">A move: it shares the source's memory.</param>
/// <param name="KeptBytes">Of a snapshot's keeper: bytes of the description that it reads, whole pages; 0 for others.</param>
internal readonly record struct HolderTask(PageRange Range, bool Moves = false, ulong KeptBytes = 0);

/// <summary>Brings our code into a child and lets it run there.</summary>
internal static unsafe class HolderLoader
{
    public const ulong ArgumentsRoom = 0x400;

    private static uint marks;

    /// <summary>Maps room for code, arguments and stacks in this process, which is about to be forked.</summary>
    public static PageRange MapHere()
    {
        ulong bytes = PageAligned((ulong)HolderImage.InThisProcess.Code.Length) + HolderBootArguments.StackBytes;
        ulong image = (ulong)Memory.Map(0, bytes, Memory.PROT_READ | Memory.PROT_WRITE, Memory.MAP_PRIVATE | Memory.MAP_ANONYMOUS)
            .OrThrow("map the holder's memory");
        return new PageRange(image, image + bytes);
    }

    /// <summary>Fills that room.</summary>
    /// <param name="image">The room.</param>
    /// <param name="task">What the child will do.</param>
    /// <param name="socket">Its end of the boot socket.</param>
    /// <param name="top">Where the arguments are, and the stack begins.</param>
    public static HolderBootArguments PrepareHere(PageRange image, HolderTask task, int socket, out ulong top)
    {
        HolderImage code = HolderImage.InThisProcess;
        ulong codeBytes = PageAligned((ulong)code.Code.Length);
        if (!SentinelProcess.TryMapCode(image.Start, codeBytes))
        {
            code.Code.CopyTo(new Span<byte>((void*)image.Start, code.Code.Length));
            Memory.Protect(image.Start, codeBytes, Memory.PROT_READ | Memory.PROT_EXEC).OrThrow("make the holder's code executable");
        }
        top = image.End - ArgumentsRoom;
        HolderBootArguments arguments = BootArguments(code.At(image.Start), image.Start, image.Length, task, socket);
        *(HolderBootArguments*)top = arguments;
        return arguments;
    }

    private static ulong PageAligned(ulong bytes) => (bytes + PageRange.PageSize - 1) & ~(PageRange.PageSize - 1);

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
        Without = KernelFeatures.Without,
        AddressSpaceEnd = Processor.AddressSpaceEnd,
        Mark = ((ulong)Environment.ProcessId << 32) | Interlocked.Increment(ref marks),
    };

    /// <summary>
    /// Maps the code in the stopped child, gives it a socket and lets it run. Returns our end. The image is the child's own, or lies in the memory
    /// that it shares with <paramref name="source"/>.
    /// </summary>
    public static FileDescriptor Load(RemoteThread child, FileDescriptor pidfd, HolderTask task, StoppedProcess? source, out PageRange where, out ulong mark)
    {
        HolderImage code = HolderImage.InThisProcess;
        const string doing = "load the holder";
        ulong imageBytes = PageAligned((ulong)code.Code.Length) + HolderBootArguments.StackBytes;
        const long protection = Memory.PROT_READ | Memory.PROT_WRITE, kind = Memory.MAP_PRIVATE | Memory.MAP_ANONYMOUS;
        int undo = 0;
        // In shared memory the source maps it, so that it is the source's to unmap from the same instant, should this process be killed.
        SyscallResult mapped = source is null
            ? child.Invoke(SystemCall.SYS_mmap, 0, (long)imageBytes, protection, kind, -1, 0)
            : source.InvokeUndoable(SystemCall.SYS_munmap, (long)imageBytes, out undo, SystemCall.SYS_mmap, 0, (long)imageBytes, protection, kind, -1, 0);
        ulong image = (ulong)mapped.OrThrow(doing, child.Tid);
        where = new PageRange(image, image + imageBytes);
        mark = 0;
        Step.Reached(CallStep.ImageMapped, child.Tid);
        try
        {
            FileDescriptor socket = Load(child, pidfd, task, code, image, imageBytes, source, out ulong arguments, out mark);
            try
            {
                Step.Reached(CallStep.ImageLoaded, child.Tid);
                // From here on the child itself takes the image away again.
                source?.ClearUndo(undo);
                Launch(child, code.At(image), arguments);
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
            source?.Invoke(SystemCall.SYS_munmap, (long)image, (long)imageBytes);
            throw;
        }
    }

    private static FileDescriptor Load(
        RemoteThread child, FileDescriptor pidfd, HolderTask task, HolderImage code, ulong image, ulong imageBytes, StoppedProcess? source, out ulong arguments, out ulong mark)
    {
        const string doing = "load the holder";
        Check(Memory.WriteTo(child.Tid, image, code.Code));
        long codeBytes = (long)PageAligned((ulong)code.Code.Length);
        const long executable = Memory.PROT_READ | Memory.PROT_EXEC;
        // By the source itself: it must not stand behind its undoable call any more when the image is the child's.
        SyscallResult made = source is null
            ? child.Invoke(SystemCall.SYS_mprotect, (long)image, codeBytes, executable)
            : source.Invoke(SystemCall.SYS_mprotect, (long)image, codeBytes, executable);
        made.OrThrow(doing, child.Tid);

        arguments = image + imageBytes - ArgumentsRoom;
        SyscallResult paired = MakeSockets(child, arguments);
        if (paired.Errno == Errno.EMFILE)
        {
            MakeRoom(child, default);
            paired = MakeSockets(child, arguments);
        }
        paired.OrThrow(doing, child.Tid, hint: "it has no descriptor left (RLIMIT_NOFILE)");
        Span<int> pair = stackalloc int[2];
        Check(Memory.ReadFrom(child.Tid, arguments, System.Runtime.InteropServices.MemoryMarshal.AsBytes(pair)));
        FileDescriptor socket = TakeSocket(child, pidfd, pair, arguments);
        try
        {
            HolderBootArguments boot = BootArguments(code.At(image), image, imageBytes, task, pair[0]);
            mark = boot.Mark;
            Check(Memory.WriteTo(child.Tid, arguments, new ReadOnlySpan<byte>(&boot, sizeof(HolderBootArguments))));
            return socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }

        void Check(Errno errno) => HolderLoader.Check(errno, child.Tid);
    }

    // It has its own table by now: a source without a free descriptor is no obstacle. As many as are needed here; it closes the others by itself.
    private static void MakeRoom(RemoteThread child, ReadOnlySpan<int> wanted)
    {
        for (int number = 3; number < 6; number++)
            if (!wanted.Contains(number)) child.Invoke(SystemCall.SYS_close, number);
    }

    private static SyscallResult MakeSockets(RemoteThread child, ulong pair) =>
        child.Invoke(SystemCall.SYS_socketpair, UnixSocket.AF_UNIX, UnixSocket.SOCK_SEQPACKET | UnixSocket.SOCK_CLOEXEC, 0, (long)pair);

    private static FileDescriptor TakeSocket(RemoteThread child, FileDescriptor pidfd, ReadOnlySpan<int> pair, ulong scratch)
    {
        SyscallResult taken = Linux.Pidfd.GetFd(pidfd, pair[1]);
        if (!SentDescriptor.IsNeeded(taken)) return FileDescriptor.From(taken, "load the holder", child.Tid);
        MakeRoom(child, pair);
        SyscallResult own = child.Invoke(SystemCall.SYS_socket, UnixSocket.AF_UNIX, UnixSocket.SOCK_DGRAM | UnixSocket.SOCK_CLOEXEC);
        if (!own.Failed) taken = SentDescriptor.Take(child.Tid, own.Value, scratch, pair[1], child.Invoke);
        if (!own.Failed) child.Invoke(SystemCall.SYS_close, own.Value);
        return FileDescriptor.From(taken, "load the holder", child.Tid,
            "there is no pidfd_getfd (before Linux 5.6, or behind the caller's seccomp filter), and the source cannot send to the caller: allow the call, or put both into one network namespace");
    }

    /// <summary>Lets the child go, on its own code.</summary>
    private static void Launch(RemoteThread child, HolderImage image, ulong arguments)
    {
        Ptrace.Registers registers = child.Saved;
        registers.Rip = image.Boot;
        registers.Rdi = arguments;
        registers.Rsp = arguments - 8; // as behind a call: 16-aligned plus 8
        registers.Rbp = 0;
        registers.Rax = 0;
        registers.OrigRax = ulong.MaxValue;
        Check(child.SetRegisters(registers), child.Tid);
        Check(child.SetSignalMask(ulong.MaxValue), child.Tid);
        Check(child.Detach(), child.Tid);
        Step.Reached(CallStep.HolderLaunched, child.Tid);
    }

    private static void Check(Errno errno, int pid)
    {
        if (errno != Errno.None) throw new PvmmapException(errno == Errno.ESRCH ? Errno.EAGAIN : errno, "load the holder", pid, hint: "it was killed");
    }
}
