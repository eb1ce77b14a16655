using System.Diagnostics;
using Pvmmap.Holder;
using Pvmmap.Linux;

namespace Pvmmap.Remote;

/// <summary>
/// A process of its own that runs ptrace(2) and wait4(2) for the calling thread. It shares this process's memory (clone with CLONE_VM) but not
/// its thread group, because ptrace stops are reported to every wait(2) of the tracer's thread group: the .NET runtime's child reaper, or a
/// waitpid(-1) loop of a C caller, would take them for exits. It dies with the calling thread (PR_SET_PDEATHSIG), and the kernel then lets
/// every process go that it traced.
/// </summary>
internal sealed unsafe class TracerProcess : IDisposable
{
    public const string Name = "pvmmap-tracer";
    private const int StackBytes = 32 * 1024;

    // How often the caller looks, and yields its processor, before it sleeps: some hundred microseconds, and some milliseconds for a fork(), over which it would be woken late,
    // on a processor that has forgotten it.
    private const uint Rounds = 2 * TracerMailbox.FewRounds, ForkRounds = 20_000;

    // Untraced: a debugger of this process that follows its children would hold ours.
    private const int CLONE_VM = 0x100, CLONE_FS = 0x200, CLONE_FILES = 0x400, CLONE_UNTRACED = 0x800000;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60), SpinTime = TimeSpan.FromMicroseconds(300);

    /// <summary>What waits for nobody is answered within a few microseconds, unless the tracer slept or wants this very processor.</summary>
    private static readonly TimeSpan PromptTime = TimeSpan.FromMicroseconds(15);

    /// <summary>An answer that has not come by then comes late enough for something to be done meanwhile.</summary>
    private static readonly TimeSpan IdleAfter = TimeSpan.FromMicroseconds(100);
    private const int MostLateAnswers = 3;

    private static readonly SpareMapping s_stacks = new(StackBytes);

    private ulong memory;
    private readonly TracerMailbox* mailbox;
    private int pid;
    private bool pending, spawning, forking, stopping;
    private SyscallResult spawned, forked;
    private int lateAnswers;

    /// <summary>Starts the tracer. The calling thread must be the one that uses it, and must stay until it is disposed.</summary>
    public TracerProcess()
    {
        HolderImage image = HolderImage.InThisProcess;
        memory = (ulong)s_stacks.Take().OrThrow("map the tracer's stack");
        mailbox = (TracerMailbox*)memory;
        *mailbox = new TracerMailbox { CallerPid = Environment.ProcessId, Syscall = image.SyscallStub, CloneCall = image.CloneCall, SpinRounds = TracerMailbox.FewRounds };
        ulong mask = Signals.BlockAll();
        SyscallResult result;
        try
        {
            var clone = (delegate* unmanaged<ulong, ulong, ulong, ulong, long>)image.CloneCall;
            result = new SyscallResult(clone(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_UNTRACED, memory + StackBytes, image.TracerMain, (ulong)mailbox));
        }
        finally
        {
            Signals.SetMask(mask);
        }
        if (result.Failed)
        {
            s_stacks.Return(memory);
            throw new PvmmapException(result.Errno, "start the tracer", hint: "no task can be created: RLIMIT_NPROC or pids.max");
        }
        pid = (int)result.Value;
    }

    /// <summary>
    /// A futex word and a value: as long as the word has it, tracer and caller do not look whether a tracee's system call is over, and sleep, for at
    /// most <see cref="StillnessLimit"/>. The end of a call that only begins a move would wake them in the midst of it, and a processor on which
    /// this memory is in use has to be told of every page table that goes.
    /// </summary>
    public (ulong Word, uint Value)? Stillness { get; set; }

    /// <summary>Far more than a move takes; it matters only where the call has failed.</summary>
    public static TimeSpan StillnessLimit => TimeSpan.FromMilliseconds(20);

    /// <summary>Runs one system call in the tracer and waits for its result.</summary>
    public SyscallResult Invoke(long number, long a1 = 0, long a2 = 0, long a3 = 0, long a4 = 0) => Invoke(Patience, number, a1, a2, a3, a4);

    private SyscallResult Invoke(TimeSpan patience, long number, long a1, long a2, long a3, long a4)
    {
        AwaitPending();
        CheckAlive();
        Post(number, a1, a2, a3, a4, TracerMailbox.FewRounds);
        return Answer(patience);
    }

    private void CheckAlive()
    {
        if (pid == 0) throw new PvmmapException(Errno.EAGAIN, "trace", hint: "the tracer is gone; every traced process was let go");
    }

    /// <summary>EAGAIN if it has been killed: then all that it held has been let go.</summary>
    public void Confirm() => Invoke(SystemCall.SYS_getpid);

    /// <summary>Done once, when an answer is late; it does not need the tracer, and does not fail.</summary>
    public Action? WhenIdle { get; set; }

    private SyscallResult Answer(TimeSpan patience)
    {
        if (AwaitAnswer(patience)) return new SyscallResult(mailbox->Result);
        Kill();
        throw new PvmmapException(Errno.EAGAIN, "trace", hint: $"no answer within {patience.TotalSeconds:0.#} s: a thread is in an uninterruptible wait");
    }

    /// <summary>
    /// Lets it know that it will soon be needed, and does not wait: it is awake then. It sleeps if it has nothing to do for some hundred microseconds,
    /// and to be woken on an idle processor takes long.
    /// </summary>
    public void Rouse()
    {
        AwaitPending();
        CheckAlive();
        Post(SystemCall.SYS_getpid, 0, 0, 0, 0, TracerMailbox.FewRounds);
        pending = true;
    }

    /// <summary>Runs several in a row, up to the first that fails; each has its result. Pointers in them are to memory that does not move.</summary>
    /// <returns>How many succeeded.</returns>
    public int Invoke(Span<TracerRequest> requests, TimeSpan? patience = null)
    {
        fixed (TracerRequest* list = requests)
            return (int)Invoke(patience ?? Patience, TracerMailbox.List, (long)list, requests.Length, 0, 0).Value;
    }

    /// <summary>
    /// Starts a child of the tracer, on a stack in this process's memory: a fork of this process, or one that shares its memory. Soon it is nobody's
    /// child: this process's wait(2) never sees it. It has no rseq registration, of which a fork of a thread would die (rseq(2)). Its pid, or an errno.
    /// </summary>
    public SyscallResult Fork(bool shareMemory, ulong stackTop, ulong function, ulong argument)
    {
        BeginFork(shareMemory, stackTop, function, argument);
        return AwaitForked();
    }

    /// <summary>The same, and does not wait for it.</summary>
    public void BeginFork(bool shareMemory, ulong stackTop, ulong function, ulong argument)
    {
        AwaitPending();
        CheckAlive();
        // Of a copy it sleeps at once behind it: else its processor would not be there for the child, which runs on the caller's until that sleeps.
        Post(TracerMailbox.Spawn, (long)stackTop, (long)function, (long)argument,
            shareMemory ? CLONE_UNTRACED | CLONE_VM : CLONE_UNTRACED, shareMemory ? TracerMailbox.FewRounds : 0);
        pending = forking = true;
    }

    /// <summary>The child's pid, or an errno.</summary>
    public SyscallResult AwaitForked()
    {
        if (forking) AwaitPending();
        return forked;
    }

    /// <summary>
    /// Has a child started that shares this process's memory until it becomes a program, and does not wait for it. Nor does the tracer, as it would for a vfork():
    /// the source could not be stopped meanwhile.
    /// </summary>
    public void Spawn(ulong stackTop, ulong function, ulong argument)
    {
        AwaitPending();
        CheckAlive();
        Post(TracerMailbox.Spawn, (long)stackTop, (long)function, (long)argument, CLONE_UNTRACED | CLONE_VM, TracerMailbox.FewRounds);
        pending = spawning = true;
    }

    /// <summary>The child's pid, or an errno. It may still use that memory.</summary>
    public SyscallResult AwaitSpawned()
    {
        if (spawning) AwaitPending();
        return spawned;
    }

    private void AwaitPending()
    {
        if (!pending) return;
        CheckAlive();
        SyscallResult answer = Answer(Patience);
        if (spawning) spawned = answer;
        if (forking) forked = answer;
        pending = spawning = forking = false;
    }

    public static TracerRequest PtraceRequest(long request, int tid, long address = 0, long data = 0) =>
        new() { Number = SystemCall.SYS_ptrace, A1 = request, A2 = tid, A3 = address, A4 = data };

    public static TracerRequest WaitRequest(int tid, int* status) =>
        new() { Number = SystemCall.SYS_wait4, A1 = tid, A2 = (long)status, A3 = Linux.Ptrace.__WALL };

    public static TracerRequest SleepRequest(ulong word, uint value, Futex.TimeSpec* limit) =>
        new() { Number = SystemCall.SYS_futex, A1 = (long)word, A2 = Futex.FUTEX_WAIT, A3 = value, A4 = (long)limit };

    public SyscallResult Ptrace(long request, int tid, long address = 0, long data = 0) => Ptrace(PtraceRequest(request, tid, address, data));

    public SyscallResult Ptrace(in TracerRequest request) => Invoke(request.Number, request.A1, request.A2, request.A3, request.A4);

    /// <summary>Waits for a change of one tracee. A tracee that does not come to a stop in time ends the tracer, which lets all go: EAGAIN.</summary>
    public SyscallResult Wait(int tid, out WaitStatus status, TimeSpan? patience = null)
    {
        int word = 0;
        SyscallResult result;
        do result = Invoke(patience ?? Patience, SystemCall.SYS_wait4, tid, (long)&word, Linux.Ptrace.__WALL, 0);
        while (result.Errno == Errno.EINTR);
        status = new WaitStatus(word);
        return result;
    }

    private void Post(long number, long a1, long a2, long a3, long a4, uint rounds)
    {
        mailbox->SpinRounds = rounds;
        mailbox->Number = number;
        mailbox->A1 = a1;
        mailbox->A2 = a2;
        mailbox->A3 = a3;
        mailbox->A4 = a4;
        Volatile.Write(ref mailbox->Request, mailbox->Request + 1);
        Futex.Wake(&mailbox->Request);
    }

    private bool AwaitAnswer(TimeSpan patience)
    {
        uint wanted = mailbox->Request;
        if (Stillness is { } still) Futex.Wait((uint*)still.Word, still.Value, StillnessLimit);
        else if (!Waits() && AwaitPromptAnswer(wanted)) return true;
        long begin = Stopwatch.GetTimestamp();
        uint rounds = forking ? ForkRounds : Rounds;
        for (uint spin = 0; spin < rounds && Volatile.Read(ref mailbox->SlowYields) < TracerMailbox.TooManySlowYields; spin++)
        {
            if (Volatile.Read(ref mailbox->Answer) == wanted) return true;
            long before = Stopwatch.GetTimestamp();
            Thread.Yield();
            // Stopwatch counts nanoseconds here.
            if (Stopwatch.GetTimestamp() - before > (long)TracerMailbox.SlowYield) Interlocked.Increment(ref mailbox->SlowYields);
            if (WhenIdle is null || Stopwatch.GetElapsedTime(begin) < IdleAfter) continue;
            // Who had the processor meanwhile has perhaps just done what the tracer waits for.
            if (LooksFor(wanted)) return true;
            UseTheTime();
        }
        UseTheTime();
        long deadline = Environment.TickCount64 + (long)patience.TotalMilliseconds;
        int dead = 0;
        while (Volatile.Read(ref mailbox->Answer) is var answer && answer != wanted)
        {
            if (Environment.TickCount64 >= deadline) return false;
            Futex.Wait(&mailbox->Answer, answer, TimeSpan.FromMilliseconds(100));
            if (Volatile.Read(ref mailbox->Answer) != answer) continue;
            if (HasDied()) throw new PvmmapException(Errno.EAGAIN, "trace", hint: "the tracer was killed; every traced process was let go");
            int awaited = Awaited();
            if (awaited != 0 && awaited == dead)
            {
                Kill();
                throw new PvmmapException(Errno.ESRCH, "trace", awaited, hint: "it was killed");
            }
            dead = awaited != 0 && Procfs.ProcessStatus.Find(awaited) is null ? awaited : 0;
        }
        return true;
    }

    // Without giving way: whoever has just been let go, on this very processor perhaps, would run first, and for long.
    private bool AwaitPromptAnswer(uint wanted)
    {
        if (lateAnswers >= MostLateAnswers || Environment.ProcessorCount == 1) return false;
        if (LooksFor(wanted)) return true;
        lateAnswers++;
        return false;
    }

    private bool LooksFor(uint answer)
    {
        for (long begin = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(begin) < PromptTime;)
        {
            if (Volatile.Read(ref mailbox->Answer) == answer) return true;
            Thread.SpinWait(1);
        }
        return false;
    }

    private void UseTheTime()
    {
        Action? work = WhenIdle;
        WhenIdle = null;
        work?.Invoke();
    }

    /// <summary>Whether the tracer's answer comes only after somebody else has done something.</summary>
    private bool Waits()
    {
        if (mailbox->Number != TracerMailbox.List) return mailbox->Number == SystemCall.SYS_wait4 || mailbox->Number == TracerMailbox.Spawn;
        TracerRequest* list = (TracerRequest*)mailbox->A1;
        for (long i = 0; i < mailbox->A2; i++)
            if (list[i].Number == SystemCall.SYS_wait4 || list[i].Number == SystemCall.SYS_futex) return true;
        return false;
    }

    /// <summary>
    /// Whom the tracer waits for; 0 if for nobody. The end of a killed leader is not reported as long as its other threads have not been waited for, which are
    /// zombies of the same tracer.
    /// </summary>
    private int Awaited()
    {
        if (mailbox->Number == SystemCall.SYS_wait4) return (int)mailbox->A1;
        if (mailbox->Number != TracerMailbox.List) return 0;
        TracerRequest* list = (TracerRequest*)mailbox->A1;
        for (long i = 0; i < mailbox->A2; i++)
        {
            if (list[i].Number == SystemCall.SYS_wait4 && Volatile.Read(ref list[i].Result) == 0) return (int)list[i].A1;
        }
        return 0;
    }

    private bool HasDied()
    {
        if (SystemCall.Invoke(SystemCall.SYS_wait4, pid, 0, Linux.Ptrace.__WALL | Linux.Ptrace.WNOHANG).Raw == 0) return false;
        pid = 0;
        return true;
    }

    private void Kill()
    {
        SystemCall.Invoke(SystemCall.SYS_kill, pid, Signals.SIGKILL);
        Reap();
    }

    private void FinishPending()
    {
        try
        {
            AwaitPending();
        }
        catch (PvmmapException)
        {
            // It is gone, or does not answer and has been killed: there is nothing more to end.
        }
    }

    private void Reap()
    {
        for (long begin = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(begin) < SpinTime;)
        {
            if (HasDied()) return;
            Thread.Yield();
        }
        // ECHILD: a waitpid(-1, __WALL) elsewhere in this process was quicker.
        SystemCall.InvokeUninterrupted(SystemCall.SYS_wait4, pid, 0, Linux.Ptrace.__WALL);
        pid = 0;
    }

    /// <summary>Tells the tracer to end; whatever it still traces is let go by the kernel.</summary>
    public void Stop()
    {
        FinishPending();
        if (pid != 0 && !stopping) Post(TracerMailbox.Stop, 0, 0, 0, 0, 0);
        stopping = true;
    }

    /// <summary>Ends the tracer, if it has not been told to yet.</summary>
    public void Dispose()
    {
        Stop();
        if (pid != 0) Reap();
        if (memory != 0) s_stacks.Return(memory);
        memory = 0;
    }
}
