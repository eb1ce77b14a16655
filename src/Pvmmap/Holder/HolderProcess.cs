using Pvmmap.Linux;
using Pvmmap.Remote;

namespace Pvmmap.Holder;

/// <summary>
/// A new holder, from its birth to the moment it serves: it keeps the source range as it was at the cut. Until <see cref="Release"/> it ends
/// when this object is disposed, or when this process dies (its boot socket is closed, or the tracer that still holds it is gone).
/// </summary>
internal sealed unsafe class HolderProcess : IDisposable
{
    /// <summary>What the holder says over its boot socket.</summary>
    private const byte Ready = (byte)'R', Serving = (byte)'S';
    private const byte Begin = (byte)'C', Serve = (byte)'U';
    private const ulong StackBytes = 64 * 1024;
    private const ulong ArgumentsRoom = 0x400;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly FileDescriptor pidfd;
    private FileDescriptor? socket;
    private bool released, followed;

    private HolderProcess(int pid, FileDescriptor pidfd, FileDescriptor? socket, ControlMapping control, bool mayServe)
    {
        MayServe = mayServe;
        Pid = pid;
        this.pidfd = pidfd;
        this.socket = socket;
        Control = control;
    }

    public int Pid { get; }

    public ControlMapping Control { get; }

    /// <summary>False if a seccomp filter may forbid it what serving takes: its memory can be read, no more.</summary>
    public bool MayServe { get; }

    /// <summary>Turns a child that the source was made to fork into a holder.</summary>
    /// <param name="child">The child, stopped under the tracer.</param>
    /// <param name="range">The source range.</param>
    /// <param name="frozen">Leave it under the tracer, for good.</param>
    public static HolderProcess Start(RemoteThread child, PageRange range, bool frozen)
    {
        FileDescriptor pidfd = Linux.Pidfd.Open(child.Tid);
        FileDescriptor? socket = null;
        try
        {
            if (!frozen) socket = LoadImage(child, pidfd, range);
            return new HolderProcess(child.Tid, pidfd, socket, CreateControl(child.Tid, pidfd, socket), !frozen);
        }
        catch
        {
            Linux.Pidfd.Kill(pidfd);
            socket?.Dispose();
            pidfd.Dispose();
            throw;
        }
    }

    /// <summary>Forks this process; the child is the holder. No managed code runs in it.</summary>
    public static HolderProcess ForkThisProcess(PageRange range, bool mayServe)
    {
        HolderImage code = HolderImage.InThisProcess;
        ulong codeBytes = PageAligned((ulong)code.Code.Length), imageBytes = codeBytes + StackBytes;
        const int intermediateStack = 16 * 1024;
        ulong image = (ulong)Memory.Map(0, imageBytes + intermediateStack, Memory.PROT_READ | Memory.PROT_WRITE, Memory.MAP_PRIVATE | Memory.MAP_ANONYMOUS)
            .OrThrow("map the holder's memory");
        (FileDescriptor here, FileDescriptor there) = UnixSocket.Pair();
        try
        {
            code.Code.CopyTo(new Span<byte>((void*)image, code.Code.Length));
            Memory.Protect(image, codeBytes, Memory.PROT_READ | Memory.PROT_EXEC).OrThrow("make the holder's code executable");
            TakeSelfArguments arguments = new()
            {
                Syscall = code.SyscallStub,
                CloneCall = code.CloneCall,
                IntermediateStackTop = image + imageBytes + intermediateStack,
                Boot = BootArguments(code.At(image), image, imageBytes, range, there.Number),
            };
            ulong mask = Signals.BlockAll();
            ((delegate* unmanaged<TakeSelfArguments*, void>)code.At(image).TakeSelf)(&arguments);
            Signals.SetMask(mask);
            int pid = (int)new SyscallResult(arguments.HolderPid)
                .OrThrow("fork the holder", hint: "no task or no memory: RLIMIT_NPROC, pids.max, overcommit");
            FileDescriptor pidfd = Linux.Pidfd.Open(pid);
            try
            {
                return new HolderProcess(pid, pidfd, here, CreateControl(pid, pidfd, here), mayServe);
            }
            catch
            {
                pidfd.Dispose();
                throw;
            }
        }
        catch
        {
            // The holder, if there is one, sees its socket close and ends.
            here.Dispose();
            throw;
        }
        finally
        {
            there.Dispose();
            Memory.Unmap(image, imageBytes + intermediateStack);
        }
    }

    private static ulong PageAligned(ulong bytes) => (bytes + PageRange.PageSize - 1) & ~(PageRange.PageSize - 1);

    private static HolderBootArguments BootArguments(HolderImage image, ulong at, ulong bytes, PageRange range, int socket) => new()
    {
        Syscall = image.SyscallStub,
        ImageStart = at,
        ImageLength = bytes,
        SourceStart = range.Start,
        SourceLength = range.Length,
        Socket = socket,
    };

    /// <summary>Maps the code in the stopped child, gives it a socket and lets it run. Returns our end.</summary>
    private static FileDescriptor LoadImage(RemoteThread child, FileDescriptor pidfd, PageRange range)
    {
        HolderImage code = HolderImage.InThisProcess;
        ulong codeBytes = PageAligned((ulong)code.Code.Length), imageBytes = codeBytes + StackBytes;
        const string doing = "load the holder";
        ulong image = (ulong)child.Invoke(SystemCall.SYS_mmap, 0, (long)imageBytes, Memory.PROT_READ | Memory.PROT_WRITE,
            Memory.MAP_PRIVATE | Memory.MAP_ANONYMOUS, -1, 0).OrThrow(doing, child.Tid);
        Check(Memory.WriteTo(child.Tid, image, code.Code));
        child.Invoke(SystemCall.SYS_mprotect, (long)image, (long)codeBytes, Memory.PROT_READ | Memory.PROT_EXEC).OrThrow(doing, child.Tid);

        // Its own table by now: a source without a free descriptor is no obstacle.
        child.Invoke(SystemCall.SYS_close_range, 3, uint.MaxValue);
        ulong arguments = image + imageBytes - ArgumentsRoom;
        child.Invoke(SystemCall.SYS_socketpair, UnixSocket.AF_UNIX, UnixSocket.SOCK_SEQPACKET | UnixSocket.SOCK_CLOEXEC, 0, (long)arguments)
            .OrThrow(doing, child.Tid, hint: "it has no descriptor left (RLIMIT_NOFILE)");
        Span<int> pair = stackalloc int[2];
        Check(Memory.ReadFrom(child.Tid, arguments, System.Runtime.InteropServices.MemoryMarshal.AsBytes(pair)));
        FileDescriptor socket = FileDescriptor.From(Linux.Pidfd.GetFd(pidfd, pair[1]), doing, child.Tid);
        try
        {
            child.Invoke(SystemCall.SYS_close, pair[1]).OrThrow(doing, child.Tid);
            HolderBootArguments boot = BootArguments(code.At(image), image, imageBytes, range, pair[0]);
            Check(Memory.WriteTo(child.Tid, arguments, new ReadOnlySpan<byte>(&boot, sizeof(HolderBootArguments))));
            Ptrace.Registers registers = child.Saved;
            registers.Rip = code.At(image).Boot;
            registers.Rdi = arguments;
            registers.Rsp = arguments - 8; // as behind a call: 16-aligned plus 8
            registers.Rbp = 0;
            registers.Rax = 0;
            registers.OrigRax = ulong.MaxValue;
            Check(child.SetRegisters(registers));
            Check(child.SetSignalMask(ulong.MaxValue));
            Check(child.Detach());
            return socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }

        void Check(Errno errno)
        {
            if (errno != Errno.None) throw new PvmmapException(errno == Errno.ESRCH ? Errno.EAGAIN : errno, doing, child.Tid, hint: "it was killed");
        }
    }

    private static ControlMapping CreateControl(int pid, FileDescriptor pidfd, FileDescriptor? socket)
    {
        (ControlMapping control, FileDescriptor memfd) = ControlMapping.Create();
        using (memfd)
        {
            try
            {
                control.Page.HolderPid = pid;
                if (socket is null) return control;
                using FileDescriptor pagemap = Files.Open($"/proc/{pid}/pagemap", Files.O_RDONLY);
                UnixSocket.Send(socket, Begin, memfd, pagemap);
                Expect(socket, pidfd, pid, Ready);
                return control;
            }
            catch
            {
                control.Dispose();
                throw;
            }
        }
    }

    /// <summary>Gives the holder the target's userfaultfd; when this returns, holder and guardian stand and faults are served.</summary>
    public void BeginServing(FileDescriptor userfaultfd)
    {
        UnixSocket.Send(socket!, Serve, userfaultfd);
        Expect(socket!, pidfd, Pid, Serving);
    }

    private static void Expect(FileDescriptor socket, FileDescriptor pidfd, int pid, byte message)
    {
        if (!Poll.Readable(socket, Patience) || UnixSocket.Receive(socket) != message)
        {
            throw new PvmmapException(Errno.EAGAIN, "start the holder", pid,
                hint: Linux.Pidfd.HasEnded(pidfd) ? "it ended before it could serve (killed, or no memory or task for it)" : "it does not answer");
        }
    }

    /// <summary>From now on the holder ends by itself.</summary>
    public void Release() => released = true;

    /// <summary>Waits for the end of the fill.</summary>
    public DuplicationState AwaitEnd() => FillEnd.Await(pidfd, Control, Timeout.InfiniteTimeSpan)!.Value;

    /// <summary>Hands the view of the fill on; the holder is no longer this object's business.</summary>
    public Duplication Follow()
    {
        followed = true;
        return new Duplication(Control, pidfd);
    }

    /// <summary>Lets go of the holder; kills it if it was never released.</summary>
    public void Dispose()
    {
        if (!released) Linux.Pidfd.Kill(pidfd);
        socket?.Dispose();
        socket = null;
        if (followed) return;
        Control.Dispose();
        pidfd.Dispose();
    }
}
