using System.Buffers;
using System.Buffers.Binary;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Pvmmap.Holder;
using Pvmmap.Linux;
using Pvmmap.Procfs;

namespace Pvmmap.Remote;

/// <summary>
/// A process that stands still under ptrace (all its threads, or the one that runs our calls) from <see cref="Stop"/> to <see cref="Dispose"/>,
/// which gives each thread its registers and signal mask back. If this process dies in between, the trampoline does that.
/// </summary>
internal sealed class StoppedProcess : IProcessCalls
{
    private const uint CloneVm = 0x100;
    private const string RunACall = "run a system call in the process";

    /// <summary>ENOSYS.</summary>
    public const string Is32Bit = "it is a 32-bit program, and only 64-bit programs can take part";

    /// <summary>EPERM; the kernel's rule is that of PTRACE_O_SUSPEND_SECCOMP.</summary>
    public const string MayNotSuspendSeccomp = "it is under seccomp, which only a caller may suspend that has CAP_SYS_ADMIN in the first user namespace and is not under seccomp itself";

    // AMX tiles are the largest part that there is; room for as much again.
    private const int LongestExtendedState = 24 * 1024, LongestFloatingPoint = 512;

    private static readonly TimeSpan StopPatience = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan ThreadsPatience = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan QueuePatience = TimeSpan.FromSeconds(60);

    private readonly TracerProcess tracer;
    private readonly FileDescriptor pidfd;
    private readonly List<int> stopped = [];
    private readonly HashSet<int> repaired = [];
    private readonly Dictionary<int, (Ptrace.Registers Registers, int StopSignal)> found = [];
    private readonly long stoppedAt;
    private readonly bool[] undo = new bool[Trampoline.UndoEntries];
    private RemoteThread thread = null!;
    private ulong? savedMask;
    private ulong trampoline;
    private int extraOptions;
    private SignalFrame? signalFrame;
    private MapsFile? maps;
    private ProcessStatus? shown;
    // Addresses where something else may be by now.
    private PageRange taken;
    private bool disturbed, released;

    private StoppedProcess(TracerProcess tracer, FileDescriptor pidfd, int pid)
    {
        this.tracer = tracer;
        this.pidfd = pidfd;
        Pid = pid;
        undo[Trampoline.ReapUndo] = true;
        stoppedAt = Stopwatch.GetTimestamp();
    }

    public int Pid { get; }

    public MapsFile Maps => maps ??= MapsFile.Open(Pid);

    public ulong Scratch => trampoline + Trampoline.ScratchOffset;

    /// <summary>What the thread that runs our calls has shown of itself since it stands still.</summary>
    public ProcessStatus Status => shown ?? throw new InvalidOperationException("it does not stand still yet");

    /// <summary>True if its seccomp filter is suspended for as long as it is traced. A child inherits the filter, and meets it when let go.</summary>
    public bool IsUnderSeccomp => extraOptions != 0;

    /// <summary>How long the process has stood still, final after <see cref="Dispose"/>.</summary>
    public TimeSpan StopTime { get; private set; }

    /// <summary>Stops a process and maps the trampoline in it.</summary>
    /// <param name="tracer">The tracer; of the calling thread.</param>
    /// <param name="pidfd">The process, so that a reused number does no harm.</param>
    /// <param name="pid">Its number.</param>
    /// <param name="everyThread">True: no thread of it runs, the memory is that of one instant. False: the one thread that runs our calls stands still.</param>
    /// <param name="avoid">Addresses that the trampoline must keep clear of, and that may be unmapped or replaced before the process goes on.</param>
    public static StoppedProcess Stop(TracerProcess tracer, FileDescriptor pidfd, int pid, bool everyThread, PageRange avoid)
    {
        Processor.RequireStopping(pid);
        return Hold(tracer, pidfd, pid, everyThread, (process, extendedState, length) =>
        {
            process.MapTrampoline(avoid, extendedState, length);
            Step.ReachedIn(pid, CallStep.SourcePrepared, CallStep.TargetPrepared);
        });
    }

    /// <summary>Unmaps a range in a process that may have no room for the trampoline, if what is to be unmapped is still there when it stands still.</summary>
    public static void Unmap(TracerProcess tracer, FileDescriptor pidfd, int pid, PageRange range, Func<bool> isStillThere)
    {
        using StoppedProcess stopped = Hold(tracer, pidfd, pid, everyThread: false, (process, extendedState, length) => process.PushSignalFrame(extendedState, length));
        if (isStillThere()) stopped.Borrowed(stopped.signalFrame?.Stack, SystemCall.SYS_munmap, (long)range.Start, (long)range.Length);
    }

    private static StoppedProcess Hold(TracerProcess tracer, FileDescriptor pidfd, int pid, bool everyThread, Action<StoppedProcess, byte[], int> prepare)
    {
        StoppedProcess process = new(tracer, pidfd, pid);
        byte[] extendedState = ArrayPool<byte>.Shared.Rent(SignalFrame.LargestExtendedState);
        try
        {
            if (everyThread) process.StopEveryThread();
            else process.StopOneThread();
            Step.ReachedIn(pid, CallStep.SourceStopped, CallStep.TargetStopped);
            process.Prepare(extendedState, out int length);
            prepare(process, extendedState, length);
            return process;
        }
        catch
        {
            process.Dispose();
            throw;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(extendedState);
        }
    }

    /// <summary>Stops those of its threads that run still.</summary>
    public void StopTheRest() => StopEveryThread();

    private void StopEveryThread()
    {
        // The kernel's count, not the list, tells that none is left: one may start another between two looks and end, and a list in which one has just ended may lack those behind it.
        long begin = Stopwatch.GetTimestamp();
        for (int looks = 1; !EveryThreadStands(); looks++)
        {
            List<int> fresh = Threads();
            fresh.RemoveAll(stopped.Contains);
            StopThreads(fresh);
            if (thread is null && looks > 1) throw Gone();
            // Killed, or another program by now.
            if (looks > 2) ConfirmStandsStill();
            if (Stopwatch.GetElapsedTime(begin) < ThreadsPatience) continue;
            throw new PvmmapException(Errno.EAGAIN, "stop the process", Pid, hint: "its threads start others, or end, more quickly than they can be stopped");
        }
    }

    private bool EveryThreadStands()
    {
        if (thread is null) return false;
        ProcessStatus status = ProcessStatus.ReadThread(Pid, thread.Tid);
        // A main thread that has ended counts still.
        if (status.Threads != stopped.Count && (status.Threads != stopped.Count + 1 || stopped.Contains(Pid) || !LeaderHasEnded())) return false;
        shown = status;
        return true;
    }

    private bool LeaderHasEnded() => ProcessStatus.ReadThread(Pid, Pid).State is 'Z' or 'X';

    private void StopOneThread()
    {
        // The leader, which need not be looked for, and has the main stack, on which a signal frame can be laid.
        StopThreads([Pid]);
        if (thread is not null) return;
        foreach (int tid in Threads())
        {
            if (tid != Pid) StopThreads([tid]);
            if (thread is not null) return;
        }
        throw Gone();
    }

    /// <summary>
    /// Becomes the tracer of threads and stops them, and repairs at once what that interrupted: should this process be killed in between, the
    /// program would see the EINTR. All are asked first, then awaited: the stop is as long as the slowest, not as the sum. It is one go of the
    /// tracer: while some are traced and others are not, or they are and still run, a signal that nobody asked for can wake one of them, and be
    /// taken away by another that then has the only stop.
    /// </summary>
    private unsafe void StopThreads(List<int> tids)
    {
        int count = tids.Count;
        TracerRequest[] requests = new TracerRequest[4 * count];
        int[] words = new int[count];
        Ptrace.Registers[] registers = new Ptrace.Registers[count];
        fixed (int* word = words)
        fixed (Ptrace.Registers* register = registers)
        {
            for (int i = 0; i < count; i++)
            {
                requests[i] = SeizeRequest(tids[i]);
                requests[count + i] = TracerProcess.PtraceRequest(Ptrace.PTRACE_INTERRUPT, tids[i]);
                requests[(2 * count) + (2 * i)] = TracerProcess.WaitRequest(tids[i], word + i);
                requests[(2 * count) + (2 * i) + 1] = TracerProcess.PtraceRequest(Ptrace.PTRACE_GETREGS, tids[i], 0, (long)(register + i));
            }
            // A request fails for a thread that has ended meanwhile; the others' go on behind it.
            for (int at = 0; at < requests.Length; at++)
            {
                at += tracer.Invoke(requests.AsSpan(at), StopPatience);
                if (at < count) Seize(tids[at]);
            }
        }
        for (int i = 0; i < count; i++)
        {
            WaitStatus status = new(words[i]);
            if (requests[(2 * count) + (2 * i)].Result < 0 || !status.Stopped) continue;
            RemoteThread candidate = new(tracer, tids[i]);
            bool known = status.IsEventStop && requests[(2 * count) + (2 * i) + 1].Result >= 0;
            if (!known && (!candidate.PassOn(status) || !candidate.AwaitEventStop(StopPatience) || candidate.GetRegisters(out registers[i]) != Errno.None)) continue;
            stopped.Add(tids[i]);
            found[tids[i]] = (registers[i], known && status.StopSignal != Signals.SIGTRAP ? status.StopSignal : 0);
            candidate.Saved = registers[i];
            RepairIfInterrupted(candidate);
            if (thread is null || tids[i] == Pid) thread = candidate;
        }
    }

    private static TracerRequest SeizeRequest(int tid) => TracerProcess.PtraceRequest(Ptrace.PTRACE_SEIZE, tid, 0, Ptrace.PTRACE_O_TRACESYSGOOD);

    // The leader last: a signal that is ignored is queued all the same for a traced thread that it is sent to, and may wake any other thread of
    // the process; if that is not traced yet, it sees an EINTR. SIGCHLD is sent to the thread that started the child, mostly the leader.
    private List<int> Threads()
    {
        List<int> threads = [];
        try
        {
            foreach (string path in Directory.EnumerateDirectories(string.Create(CultureInfo.InvariantCulture, $"/proc/{Pid}/task")))
                threads.Add(int.Parse(Path.GetFileName(path.AsSpan()), CultureInfo.InvariantCulture));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Gone();
        }
        threads.Sort((a, b) => (a == Pid).CompareTo(b == Pid));
        return threads;
    }

    private PvmmapException Gone() => new(Errno.ESRCH, "stop the process", Pid, hint: "it is exiting");

    /// <summary>Becomes the tracer of a thread that could not be had at once, unless it is gone. It goes on running.</summary>
    private void Seize(int tid)
    {
        long queuedSince = Environment.TickCount64;
        int refusals = 0;
        while (true)
        {
            SyscallResult result = tracer.Ptrace(SeizeRequest(tid));
            if (!result.Failed || result.Errno == Errno.ESRCH) return;
            ProcessStatus status;
            try
            {
                status = ProcessStatus.ReadThread(Pid, tid);
            }
            catch (PvmmapException e) when (e.Errno == Errno.ESRCH)
            {
                return;
            }
            // A dead thread also says EPERM.
            if (status.State is 'Z' or 'X') return;
            if (status.TracerPid == 0)
            {
                // Either we may not, or whoever traced it has let it go since.
                if (++refusals < 50) continue;
                throw new PvmmapException(Errno.EPERM, "trace the process", Pid, hint: PtraceAccess.Describe(Pid));
            }
            if (!AwaitOtherCall(status.TracerPid, queuedSince))
            {
                throw new PvmmapException(Errno.EBUSY, "trace the process", Pid,
                    hint: string.Create(CultureInfo.InvariantCulture, $"process {status.TracerPid} is tracing it (a debugger?); detach it first"));
            }
        }
    }

    // Another call of ours holds the process for some milliseconds: its tracer is a process that ends with the call, so wait for that.
    private static bool AwaitOtherCall(int otherTracer, long queuedSince)
    {
        if (Environment.TickCount64 - queuedSince > (long)QueuePatience.TotalMilliseconds) return false;
        try
        {
            if (ProcessStatus.Read(otherTracer).Name != TracerProcess.Name) return false;
            using FileDescriptor other = Pidfd.Open(otherTracer);
            // It may let go of this process long before it ends.
            Poll.Readable(other, TimeSpan.FromMilliseconds(5));
            return true;
        }
        catch (PvmmapException e) when (e.Errno == Errno.ESRCH)
        {
            return true;
        }
    }

    private void RepairIfInterrupted(RemoteThread candidate)
    {
        Ptrace.Registers again = candidate.Saved;
        if (!SystemCallRestart.RepairInterrupted(ref again)) return;
        ProcessStatus status = ProcessStatus.ReadThread(Pid, candidate.Tid);
        // Signals that are ignored are queued all the same for a tracee; they interrupt nothing.
        ulong ignored = status.SigIgn | (Signals.IgnoredByDefault & ~status.SigCgt);
        if (((status.SigPnd | status.ShdPnd) & ~status.SigBlk & ~ignored) != 0) return;
        candidate.Saved = again;
        candidate.SetRegisters(again);
        repaired.Add(candidate.Tid);
    }

    /// <param name="extendedState">Room for what is in no general register.</param>
    /// <param name="length">Of that; 0 if it cannot be had.</param>
    private void Prepare(byte[] extendedState, out int length)
    {
        if (Pidfd.HasEnded(pidfd)) throw Gone();
        if (thread.Saved.Cs != Ptrace.UserCodeSegment64)
            throw new PvmmapException(Errno.ENOSYS, RunACall, Pid, hint: Is32Bit);
        Inspect(extendedState, out length, out RestartableSequence.Configuration sequence);
        RestartableSequence.Abort(sequence, thread, Pid);
        shown ??= ProcessStatus.ReadThread(Pid, thread.Tid);
        if (shown.Seccomp == 0) return;
        extraOptions = Ptrace.PTRACE_O_SUSPEND_SECCOMP;
        Errno errno = thread.SetOptions(Ptrace.PTRACE_O_TRACESYSGOOD | extraOptions);
        if (errno == Errno.EPERM)
        {
            throw new PvmmapException(Errno.EPERM, RunACall, Pid, hint: MayNotSuspendSeccomp);
        }
        Check(errno);
    }

    // In one go of the tracer.
    private unsafe void Inspect(byte[] extendedState, out int length, out RestartableSequence.Configuration sequence)
    {
        ulong mask = 0;
        RestartableSequence.Configuration registered = default;
        fixed (byte* room = extendedState)
        {
            Memory.IoVector vector = new() { Base = (ulong)room, Length = SignalFrame.LargestExtendedState - sizeof(ulong) };
            Span<TracerRequest> requests =
            [
                TracerProcess.PtraceRequest(Ptrace.PTRACE_GETSIGMASK, thread.Tid, Signals.MaskBytes, (long)&mask),
                TracerProcess.PtraceRequest(Ptrace.PTRACE_GETREGSET, thread.Tid, Ptrace.NT_X86_XSTATE, (long)&vector),
                RestartableSequence.Request(thread.Tid, &registered),
            ];
            // Kernel and processor may lack what the others ask for.
            for (int at = 0; at < requests.Length; at++) at += tracer.Invoke(requests[at..]);
            Check(new SyscallResult(requests[0].Result).Errno);
            length = requests[1].Result < 0 ? 0 : (int)vector.Length;
        }
        savedMask = mask;
        sequence = registered;
    }

    private void Check(Errno errno)
    {
        if (errno == Errno.ESRCH) throw Gone();
        if (errno != Errno.None) throw new PvmmapException(errno, "trace the process", Pid);
    }

    private void PushSignalFrame(byte[] extendedState, int length) =>
        signalFrame = SignalFrame.Write(thread, Pid, savedMask!.Value, Maps, extendedState, length);

    private void MapTrampoline(PageRange avoid, byte[] extendedState, int length)
    {
        PushSignalFrame(extendedState, length);
        taken = avoid;
        // Made beforehand: as long as they are mapped and the code is not there, the thread finds back, but would leave the pages.
        Span<byte> data = stackalloc byte[Trampoline.DataBytes];
        Trampoline.Describe(data, thread.Saved, savedMask!.Value, signalFrame);
        Step.ReachedIn(Pid, CallStep.SourceWayBackWritten, CallStep.TargetWayBackWritten);
        // Executable from the beginning: to make it so is a call more, with the process standing still, and whoever forbids the one forbids the other.
        const long protection = Memory.PROT_READ | Memory.PROT_WRITE | Memory.PROT_EXEC, kind = Memory.MAP_PRIVATE | Memory.MAP_ANONYMOUS | Memory.MAP_FIXED_NOREPLACE;
        SyscallResult mapped;
        int attempt = 0;
        do
        {
            if (attempt > 0) Maps.Refresh();
            ulong at = AddressSpace.FindGap(Maps, Trampoline.Length, avoid);
            mapped = Borrowed(signalFrame?.Stack, SystemCall.SYS_mmap, (long)at, (long)Trampoline.Length, protection, kind, -1, 0);
        }
        // Another thread of the process was quicker to take the gap.
        while (mapped.Errno == Errno.EEXIST && ++attempt < AddressSpace.Attempts);
        if (mapped.Errno is Errno.EEXIST or Errno.EAGAIN) mapped = new SyscallResult(-(long)Errno.ENOMEM);
        trampoline = (ulong)mapped.OrThrow("map executable pages in the process", Pid, hint: mapped.Errno is Errno.EACCES or Errno.EPERM
            ? "a security module forbids anonymous executable memory there" : null);
        Step.ReachedIn(Pid, CallStep.SourcePagesMapped, CallStep.TargetPagesMapped);
        Write(trampoline, Trampoline.Code, trampoline + Trampoline.DataOffset, data);
        thread.Instruction = trampoline + Trampoline.SyscallOffset;
        // Below our frame, so that another call that finds the thread on its way back does not put its own frame over it.
        thread.Stack = signalFrame?.Stack - SignalFrame.Distance;
        // From here on the way back is through the code there, which unmaps itself.
        Check(thread.SetRegisters(thread.Saved with { Rip = trampoline + Trampoline.WayBackOffset, Rsp = thread.Stack ?? thread.Saved.Rsp, OrigRax = ulong.MaxValue }));
    }

    /// <summary>Runs a system call on code that the process has anyway: the trampoline does not stand yet, or will not any more.</summary>
    private SyscallResult Borrowed(ulong? stack, long number, long a1 = 0, long a2 = 0, long a3 = 0, long a4 = 0, long a5 = 0, long a6 = 0)
    {
        thread.Stack = stack;
        thread.Instruction = signalFrame?.Instruction ?? BorrowedInstruction.Find(Pid, thread.Saved);
        disturbed = true;
        return thread.Invoke(number, a1, a2, a3, a4, a5, a6);
    }

    /// <summary>Pages of ours in it, until it goes on.</summary>
    public PageRange OwnPages => new(trampoline, trampoline + Trampoline.Length);

    /// <summary>The registers that its threads had when they were stopped, in the order of their ids, the leader first. Of a process all of whose threads are stopped.</summary>
    public unsafe List<ThreadRegisters> ReadThreads()
    {
        List<int> tids = [.. stopped.OrderBy(tid => tid == Pid ? 0 : tid)];
        const int room = LongestExtendedState + LongestFloatingPoint;
        byte* areas = (byte*)NativeMemory.AllocZeroed((nuint)tids.Count, room);
        try
        {
            Memory.IoVector[] vectors = new Memory.IoVector[2 * tids.Count];
            TracerRequest[] requests = new TracerRequest[3 * tids.Count];
            ulong[] masks = new ulong[tids.Count];
            fixed (Memory.IoVector* vector = vectors)
            fixed (ulong* mask = masks)
            {
                for (int i = 0; i < tids.Count; i++)
                {
                    vectors[2 * i] = new() { Base = (ulong)(areas + ((nint)i * room)), Length = LongestFloatingPoint };
                    vectors[(2 * i) + 1] = new() { Base = vectors[2 * i].Base + LongestFloatingPoint, Length = LongestExtendedState };
                    requests[3 * i] = TracerProcess.PtraceRequest(Ptrace.PTRACE_GETREGSET, tids[i], Ptrace.NT_PRFPREG, (long)(vector + (2 * i)));
                    requests[(3 * i) + 1] = TracerProcess.PtraceRequest(Ptrace.PTRACE_GETREGSET, tids[i], Ptrace.NT_X86_XSTATE, (long)(vector + (2 * i) + 1));
                    requests[(3 * i) + 2] = TracerProcess.PtraceRequest(Ptrace.PTRACE_GETSIGMASK, tids[i], Signals.MaskBytes, (long)(mask + i));
                }
                // One fails for a thread that was killed, or a processor without such registers; those behind it go on.
                for (int at = 0; at < requests.Length; at++)
                {
                    at += tracer.Invoke(requests.AsSpan(at));
                    if (at < requests.Length && at % 3 < 2) vectors[(2 * (at / 3)) + (at % 3)].Length = 0;
                }
            }
            List<ThreadRegisters> threads = [];
            for (int i = 0; i < tids.Count; i++)
            {
                (Ptrace.Registers registers, int signal) = found[tids[i]];
                threads.Add(new ThreadRegisters(tids[i], MemoryMarshal.AsBytes(new ReadOnlySpan<Ptrace.Registers>(in registers)).ToArray(),
                    Bytes(vectors[2 * i]), Bytes(vectors[(2 * i) + 1]), signal, (long)registers.OrigRax >= 0,
                    tids[i] == thread.Tid && savedMask is { } own ? own : masks[i]));
            }
            return threads;
        }
        finally
        {
            NativeMemory.Free(areas);
        }

        static byte[] Bytes(Memory.IoVector vector) => new ReadOnlySpan<byte>((void*)vector.Base, (int)vector.Length).ToArray();
    }

    public SyscallResult Invoke(long number, long a1 = 0, long a2 = 0, long a3 = 0, long a4 = 0, long a5 = 0, long a6 = 0) =>
        thread.Invoke(number, a1, a2, a3, a4, a5, a6);

    public void Write(ulong address, ReadOnlySpan<byte> bytes) => CheckWritten(Memory.WriteTo(Pid, address, bytes));

    private void Write(ulong address, ReadOnlySpan<byte> bytes, ulong secondAddress, ReadOnlySpan<byte> secondBytes) =>
        CheckWritten(Memory.WriteTo(Pid, address, bytes, secondAddress, secondBytes));

    private void CheckWritten(Errno errno)
    {
        // Our pages are gone from a process that has been let go.
        if (errno == Errno.EFAULT) Confirm();
        Check(errno);
    }

    public void Confirm() => tracer.Confirm();

    /// <summary>ESRCH if it has been killed since it stands still: then it seemed to have no page any more, to whom looked at its memory.</summary>
    public void ConfirmStandsStill()
    {
        if (thread.GetRegisters(out _) != Errno.None) throw Gone();
    }

    /// <summary>Waits until a process whose tracer has died has found its way back: its undo entries are behind it, and our pages gone. False if it does not run.</summary>
    public bool AwaitWayBack()
    {
        for (long begin = Environment.TickCount64; Environment.TickCount64 - begin < StopPatience.TotalMilliseconds; Thread.Sleep(1))
            if (Procfs.Maps.Read(Pid, OwnPages).Count == 0) return true;
        return false;
    }

    private void Write(ulong address, ulong word) => Write(address, MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in word)));

    public void Read(ulong address, Span<byte> bytes) => Check(Memory.ReadFrom(Pid, address, bytes));

    public SyscallResult GetFd(int number)
    {
        SyscallResult taken = Pidfd.GetFd(pidfd, number);
        if (!SentDescriptor.IsNeeded(taken)) return taken;
        SyscallResult socket = InvokeUndoable(
            SystemCall.SYS_close, 0, out int entry, SystemCall.SYS_socket, UnixSocket.AF_UNIX, UnixSocket.SOCK_DGRAM | UnixSocket.SOCK_CLOEXEC);
        if (socket.Failed) return taken;
        SyscallResult sent = SentDescriptor.Take(Pid, socket.Value, Scratch + (Trampoline.ScratchBytes - SentDescriptor.ScratchBytes), number, Invoke);
        InvokeDisarming(entry, SystemCall.SYS_close, socket.Value);
        return sent.Failed ? taken : sent;
    }

    public int AddUndo(long number, long a1 = 0, long a2 = 0, long a3 = 0, long a4 = 0, long a5 = 0)
    {
        int entry = FreeUndo();
        SetUndo(entry, number, a1, a2, a3, a4, a5);
        undo[entry] = true;
        return entry;
    }

    private int FreeUndo()
    {
        int entry = Array.IndexOf(undo, false);
        return entry >= 0 ? entry : throw new PvmmapException(Errno.ENOMEM, "prepare the process", Pid, hint: "too many pieces to put back");
    }

    public void ClearUndo(int entry)
    {
        Write(UndoAddress(entry), 0);
        if (entry != Trampoline.ReapUndo) undo[entry] = false;
    }

    public SyscallResult InvokeUndoable(long undoNumber, long undoA2, out int entry, long number, long a1 = 0, long a2 = 0, long a3 = 0, long a4 = 0, long a5 = 0, long a6 = 0)
    {
        int free = FreeUndo();
        SetUndo(free, undoNumber, 0, undoA2, 0, active: false);
        SyscallResult result = InvokeChanging(free, Trampoline.ArmingOffset, number, a1, a2, a3, a4, a5, a6);
        entry = 0;
        if (result.Failed) return result;
        // What the thread would do itself as soon as it goes on.
        long argument = result.Value, active = 1;
        ulong at = UndoAddress(free);
        Write(at + Trampoline.UndoArgumentOffset, MemoryMarshal.AsBytes(new ReadOnlySpan<long>(in argument)), at, MemoryMarshal.AsBytes(new ReadOnlySpan<long>(in active)));
        undo[entry = free] = true;
        return result;
    }

    public SyscallResult InvokeDisarming(int entry, long number, long a1 = 0, long a2 = 0, long a3 = 0, long a4 = 0, long a5 = 0, long a6 = 0)
    {
        SyscallResult result = InvokeChanging(entry, Trampoline.DisarmingOffset, number, a1, a2, a3, a4, a5, a6);
        if (!result.Failed) ClearUndo(entry);
        return result;
    }

    private SyscallResult InvokeChanging(int entry, ulong code, long number, long a1, long a2, long a3, long a4, long a5, long a6)
    {
        thread.Base = UndoAddress(entry);
        thread.Instruction = trampoline + code;
        SyscallResult result = thread.Invoke(number, a1, a2, a3, a4, a5, a6);
        thread.Base = null;
        thread.Instruction = trampoline + Trampoline.SyscallOffset;
        return result;
    }

    private ulong UndoAddress(int entry) => trampoline + Trampoline.UndoOffset + (ulong)(entry * Trampoline.UndoEntryBytes);

    private void SetUndo(int entry, long number, long a1, long a2, long a3, long a4 = 0, long a5 = 0, bool active = true)
    {
        Span<byte> bytes = stackalloc byte[Trampoline.UndoEntryBytes];
        bytes.Clear();
        ReadOnlySpan<long> values = [0, number, a1, a2, a3, a4, a5];
        for (int i = 0; i < values.Length; i++) BinaryPrimitives.WriteInt64LittleEndian(bytes[(8 * i)..], values[i]);
        ulong at = UndoAddress(entry);
        ReadOnlySpan<byte> one = [1, 0, 0, 0, 0, 0, 0, 0];
        // Armed last: a half-written entry must never run.
        Write(at, bytes, at, active ? one : default);
    }

    /// <summary>Puts back, in a copy of this process's memory, what our frame lies over, if that is in the range: the copy is to be what the process had.</summary>
    public void RemoveFrameFrom(RemoteThread copy, PageRange range)
    {
        if (signalFrame is not { } frame || !range.Overlaps(frame.Range)) return;
        Errno errno = Memory.WriteTo(copy.Tid, frame.Below, frame.Content);
        if (errno != Errno.None) throw new PvmmapException(errno == Errno.ESRCH ? Errno.EAGAIN : errno, "fork the holder", Pid, hint: "it was killed at once");
    }

    /// <summary>
    /// Makes the process fork a child that it never learns of: an intermediate that shares its memory forks and exits, and is reaped here.
    /// The child stands still under the tracer and dies with it, until it is detached.
    /// </summary>
    /// <param name="shareMemory">False: it has a copy of the memory. True: it has the same memory.</param>
    public RemoteThread ForkUnseen(bool shareMemory = false)
    {
        Write(trampoline + Trampoline.CloneFlagsOffset, shareMemory ? CloneVm : 0);
        // Only for this: what the thread starts by itself is none of ours.
        const int options = Ptrace.PTRACE_O_TRACESYSGOOD | Ptrace.PTRACE_O_TRACECLONE;
        Check(thread.SetOptions(options | extraOptions));
        SetUndo(Trampoline.ReapUndo, SystemCall.SYS_wait4, 0, 0, Ptrace.__WALL, active: false);
        thread.Instruction = trampoline + Trampoline.ForkOffset;
        SyscallResult result = thread.Invoke(SystemCall.SYS_clone, CloneVm);
        thread.Instruction = trampoline + Trampoline.SyscallOffset;
        long inner = result.OrThrow("start the intermediate", Pid, hint: "no task can be created: RLIMIT_NPROC or pids.max");
        SetUndo(Trampoline.ReapUndo, SystemCall.SYS_wait4, inner, 0, Ptrace.__WALL);
        RemoteThread intermediate = new(tracer, thread.NewTask);
        Step.Reached(CallStep.IntermediateStarted);
        RemoteThread child;
        try
        {
            // Its registers are left alone: it forks and exits by itself, watched, so that it also ends well when the tracer dies.
            SyscallResult forked = intermediate.RunToBirth(options | Ptrace.PTRACE_O_EXITKILL | extraOptions);
            Step.Reached(CallStep.HolderForked, forked.Failed ? 0 : (int)forked.Value);
            child = new(tracer, (int)forked.OrThrow("fork the holder", Pid, hint: forked.Errno == Errno.EAGAIN ? "no task can be created: RLIMIT_NPROC or pids.max" : null))
            {
                Instruction = trampoline + Trampoline.SyscallOffset,
            };
            if (!child.AwaitEventStop() || child.GetRegisters(out child.Saved) != Errno.None)
                throw new PvmmapException(Errno.EAGAIN, "fork the holder", Pid, hint: "it was killed at once");
        }
        finally
        {
            intermediate.RunToTheEnd();
            Invoke(SystemCall.SYS_wait4, inner, 0, Ptrace.__WALL);
            ClearUndo(Trampoline.ReapUndo);
        }
        Step.Reached(CallStep.IntermediateReaped, child.Tid);
        return child;
    }

    /// <summary>Lets the process go on as it was found.</summary>
    public void Dispose()
    {
        if (released) return;
        released = true;
        maps?.Dispose();
        try
        {
            Release();
        }
        catch (PvmmapException e) when (e.Errno is Errno.ESRCH or Errno.EAGAIN)
        {
            // The process, or the tracer with everything it held, is gone: nothing stands still any more.
        }
        signalFrame?.Dispose();
        StopTime = Stopwatch.GetElapsedTime(stoppedAt);
        Step.ReachedIn(Pid, CallStep.SourceReleased, CallStep.TargetReleased, CallStep.MovedSourceReleased);
    }

    private void Release()
    {
        bool stopAgain = false;
        if (trampoline != 0) Borrowed(signalFrame?.Stack, SystemCall.SYS_munmap, (long)trampoline, (long)Trampoline.Length);
        trampoline = 0;
        Step.ReachedIn(Pid, CallStep.SourcePagesUnmapped, CallStep.TargetPagesUnmapped, CallStep.MovedSourcePagesUnmapped);
        if (disturbed)
        {
            // As long as all is blocked, a SIGCONT behind that SIGSTOP is pending; a SIGSTOP behind it would have taken it away.
            stopAgain = thread.StopWasRequested && !ProcessStatus.ReadThread(Pid, thread.Tid).IsPending(Signals.SIGCONT);
            thread.Restore(savedMask!.Value);
        }
        // It finds its way back by its registers now.
        if (signalFrame is { } frame && !taken.Overlaps(frame.Range))
        {
            Errno errno = Memory.WriteTo(Pid, frame.Below, frame.Content);
            // EFAULT: another thread has unmapped or protected that stack.
            if (errno != Errno.EFAULT) Check(errno);
        }
        Detach();
        if (stopAgain) Pidfd.Send(pidfd, Signals.SIGSTOP);
    }

    /// <summary>
    /// Lets all threads go, in one go of the tracer. Those last whose calls are made again, which a signal would interrupt that is queued only
    /// because the thread it is sent to is still traced; the leader before its like, since it is the most likely to be sent one.
    /// </summary>
    private void Detach()
    {
        stopped.Sort((a, b) => Rank(a).CompareTo(Rank(b)));
        TracerRequest[] requests = new TracerRequest[stopped.Count];
        for (int i = 0; i < requests.Length; i++) requests[i] = TracerProcess.PtraceRequest(Ptrace.PTRACE_DETACH, stopped[i]);
        // It fails for a thread that has ended; the others' go on behind it.
        for (int at = 0; at < requests.Length; at++) at += tracer.Invoke(requests.AsSpan(at));

        int Rank(int tid) => (repaired.Contains(tid) ? 2 : 0) + (tid == Pid ? 0 : 1);
    }
}
