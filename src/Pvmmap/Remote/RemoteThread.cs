using Pvmmap.Holder;
using Pvmmap.Linux;

namespace Pvmmap.Remote;

/// <summary>One thread of another process, stopped under our tracer, that runs system calls for us.</summary>
internal sealed unsafe class RemoteThread(TracerProcess tracer, int tid)
{
    private const int LongestCourse = 8;

    private static readonly SyscallResult s_gone = new(-(long)Errno.ESRCH);

    /// <summary>All its signals are blocked.</summary>
    private bool masked;

    /// <summary>The registers of the stop, as they will be put back.</summary>
    public Ptrace.Registers Saved;

    public int Tid { get; } = tid;

    /// <summary>Address of the <c>syscall</c> instruction that <see cref="Invoke"/> uses.</summary>
    public ulong Instruction { get; set; }

    /// <summary>Stack pointer for <see cref="Invoke"/>; null leaves the thread's own.</summary>
    public ulong? Stack { get; set; }

    /// <summary>rbx for <see cref="Invoke"/>, which system calls leave alone; null leaves the thread's own.</summary>
    public ulong? Base { get; set; }

    /// <summary>Thread id of a task that the last call created, in our pid namespace; 0 if none.</summary>
    public int NewTask { get; private set; }

    /// <summary>A SIGSTOP that came while calls were run, to be sent again when the thread is let go.</summary>
    public bool StopWasRequested { get; private set; }

    public Errno GetRegisters(out Ptrace.Registers registers)
    {
        fixed (Ptrace.Registers* r = &registers)
            return tracer.Ptrace(Ptrace.PTRACE_GETREGS, Tid, 0, (long)r).Errno;
    }

    public Errno SetRegisters(in Ptrace.Registers registers)
    {
        fixed (Ptrace.Registers* r = &registers)
            return tracer.Ptrace(Ptrace.PTRACE_SETREGS, Tid, 0, (long)r).Errno;
    }

    public Errno SetSignalMask(ulong mask)
    {
        masked = false;
        return tracer.Ptrace(Ptrace.PTRACE_SETSIGMASK, Tid, Signals.MaskBytes, (long)&mask).Errno;
    }

    public Errno SetOptions(int options) => tracer.Ptrace(Ptrace.PTRACE_SETOPTIONS, Tid, 0, options).Errno;

    public Errno Continue(int signal = 0) => tracer.Ptrace(Ptrace.PTRACE_CONT, Tid, 0, signal).Errno;

    public Errno Detach() => tracer.Ptrace(Ptrace.PTRACE_DETACH, Tid).Errno;

    /// <summary>Waits for the stop that PTRACE_INTERRUPT, or being born under a tracer, brings. False if the thread is gone.</summary>
    public bool AwaitEventStop(TimeSpan? patience = null)
    {
        while (true)
        {
            if (tracer.Wait(Tid, out WaitStatus status, patience).Failed || !status.Stopped) return false;
            if (status.IsEventStop) return true;
            if (!PassOn(status)) return false;
        }
    }

    /// <summary>Ends a stop that is not the one asked for. A signal on its way to a handler comes first: hand it on, the other stop follows.</summary>
    /// <returns>False if the thread is gone.</returns>
    public bool PassOn(WaitStatus status) => Continue(status.Event == 0 && !status.IsSyscallStop ? status.StopSignal : 0) == Errno.None;

    /// <summary>
    /// Gives the thread its signal mask and <see cref="Saved"/> back. An interrupted call is started again by the kernel only from within a signal stop,
    /// so it is taken through one.
    /// </summary>
    public void Restore(ulong mask)
    {
        masked = false;
        int word = 0;
        fixed (Ptrace.Registers* saved = &Saved)
        {
            // The mask before the registers: as long as the thread has ours, it finds its way back by itself.
            Span<TracerRequest> course =
            [
                TracerProcess.PtraceRequest(Ptrace.PTRACE_SETSIGMASK, Tid, Signals.MaskBytes, (long)&mask),
                TracerProcess.PtraceRequest(Ptrace.PTRACE_SETOPTIONS, Tid),
                TracerProcess.PtraceRequest(Ptrace.PTRACE_INTERRUPT, Tid),
                TracerProcess.PtraceRequest(Ptrace.PTRACE_SETREGS, Tid, 0, (long)saved),
                TracerProcess.PtraceRequest(Ptrace.PTRACE_CONT, Tid),
                TracerProcess.WaitRequest(Tid, &word),
                TracerProcess.PtraceRequest(Ptrace.PTRACE_SETREGS, Tid, 0, (long)saved),
            ];
            if (tracer.Invoke(course) < course.Length) return;
        }
        WaitStatus status = new(word);
        // A signal came first, and then that stop.
        if (status.Stopped && !status.IsEventStop && PassOn(status) && AwaitEventStop()) SetRegisters(Saved);
    }

    /// <summary>
    /// Runs a system call on <see cref="Instruction"/>, stopping the thread before and behind it. ESRCH if the process is gone.
    /// All signals are blocked there, so that no handler sees our registers.
    /// </summary>
    public SyscallResult Invoke(long number, long a1 = 0, long a2 = 0, long a3 = 0, long a4 = 0, long a5 = 0, long a6 = 0)
    {
        Ptrace.Registers registers = Saved;
        registers.Rip = Instruction;
        registers.Rsp = Stack ?? Saved.Rsp;
        registers.Rbx = Base ?? Saved.Rbx;
        registers.Rax = (ulong)number;
        registers.OrigRax = ulong.MaxValue;
        registers.Rdi = (ulong)a1;
        registers.Rsi = (ulong)a2;
        registers.Rdx = (ulong)a3;
        registers.R10 = (ulong)a4;
        registers.R8 = (ulong)a5;
        registers.R9 = (ulong)a6;
        NewTask = 0;
        // The usual course in one go: to the call, through the call, look. It is handed to the tracer as a whole, who need not be woken six times.
        // The mask comes behind the registers, with which the thread would find its way back if the tracer died here.
        ulong everySignal = ulong.MaxValue;
        int* words = stackalloc int[2];
        Futex.TimeSpec limit = Futex.TimeSpec.From(TracerProcess.StillnessLimit);
        TracerRequest* room = stackalloc TracerRequest[LongestCourse];
        int count = 0, standstill = -1;
        room[count++] = TracerProcess.PtraceRequest(Ptrace.PTRACE_SETREGS, Tid, 0, (long)&registers);
        if (!masked) room[count++] = TracerProcess.PtraceRequest(Ptrace.PTRACE_SETSIGMASK, Tid, Signals.MaskBytes, (long)&everySignal);
        room[count++] = TracerProcess.PtraceRequest(Ptrace.PTRACE_SYSCALL, Tid);
        room[count++] = TracerProcess.WaitRequest(Tid, words);
        room[count++] = TracerProcess.PtraceRequest(Ptrace.PTRACE_SYSCALL, Tid);
        if (tracer.Stillness is { } still)
        {
            standstill = count;
            room[count++] = TracerProcess.SleepRequest(still.Word, still.Value, &limit);
        }
        room[count++] = TracerProcess.WaitRequest(Tid, words + 1);
        room[count++] = TracerProcess.PtraceRequest(Ptrace.PTRACE_GETREGS, Tid, 0, (long)&registers);
        Span<TracerRequest> course = new(room, count);
        int end = tracer.Invoke(course);
        // That word had changed before anybody slept, or nothing changed it in time.
        if (end == standstill) end = standstill + 1 + tracer.Invoke(course[(standstill + 1)..]);
        if (end != course.Length) return s_gone;
        masked = true;
        int stops = 0;
        for (int i = 0; i < 2; i++)
        {
            if (!Note(new WaitStatus(words[i]), ref stops)) return s_gone;
        }
        // An event between the two, or a SIGSTOP.
        while (stops < 2)
        {
            Span<TracerRequest> more =
            [
                TracerProcess.PtraceRequest(Ptrace.PTRACE_SYSCALL, Tid),
                TracerProcess.WaitRequest(Tid, words),
                TracerProcess.PtraceRequest(Ptrace.PTRACE_GETREGS, Tid, 0, (long)&registers),
            ];
            if (tracer.Invoke(more) < more.Length || !Note(new WaitStatus(words[0]), ref stops)) return s_gone;
        }
        return new SyscallResult((long)registers.Rax);
    }

    /// <returns>False if the thread is gone.</returns>
    private bool Note(WaitStatus status, ref int syscallStops)
    {
        if (!status.Stopped) return false;
        if (status.IsSyscallStop)
        {
            syscallStops++;
        }
        else if (status.Event == Ptrace.PTRACE_EVENT_CLONE)
        {
            ulong message = 0;
            tracer.Ptrace(Ptrace.PTRACE_GETEVENTMSG, Tid, 0, (long)&message);
            NewTask = (int)message;
        }
        else if (status.Event == 0)
        {
            // Only SIGSTOP can come through a full mask; it is held back until the thread is itself again.
            StopWasRequested = true;
        }
        return true;
    }

    /// <summary>Lets a thread that stands still run with these registers, all signals blocked.</summary>
    public Errno ContinueWith(in Ptrace.Registers registers) => LetGo(registers, Ptrace.PTRACE_CONT);

    /// <summary>The same, for good.</summary>
    public Errno DetachWith(in Ptrace.Registers registers) => LetGo(registers, Ptrace.PTRACE_DETACH);

    private Errno LetGo(in Ptrace.Registers registers, long request)
    {
        ulong everySignal = ulong.MaxValue;
        fixed (Ptrace.Registers* set = &registers)
        {
            Span<TracerRequest> course =
            [
                TracerProcess.PtraceRequest(Ptrace.PTRACE_SETREGS, Tid, 0, (long)set),
                TracerProcess.PtraceRequest(Ptrace.PTRACE_SETSIGMASK, Tid, Signals.MaskBytes, (long)&everySignal),
                TracerProcess.PtraceRequest(request, Tid),
            ];
            int done = tracer.Invoke(course);
            masked |= done > 1;
            return done == course.Length ? Errno.None : new SyscallResult(course[done].Result).Errno;
        }
    }

    /// <summary>
    /// Waits until a thread whose signals are blocked is stopped by one all the same, which it has raised itself. Somebody's SIGSTOP is not heeded, nor is a SIGCONT, which stops
    /// every thread that is traced (PTRACE_EVENT_STOP).
    /// </summary>
    /// <returns>The signal; 0 if the thread is gone.</returns>
    public int AwaitSignal()
    {
        // The kernel has opened the mask for it.
        masked = false;
        while (!tracer.Wait(Tid, out WaitStatus status).Failed && status.Stopped)
        {
            if (status.Event == 0 && status.StopSignal != Signals.SIGSTOP) return status.StopSignal;
            if (Continue() != Errno.None) break;
        }
        return 0;
    }

    /// <summary>Lets a task that was born under the tracer run until it has started another one itself, or has ended.</summary>
    /// <param name="options">Of ptrace, for it and for what it starts.</param>
    /// <returns>The task that it has started, in our pid namespace; ESRCH if it was killed, another error if that is its exit code.</returns>
    public SyscallResult RunToBirth(int options)
    {
        int* words = stackalloc int[2];
        ulong born = 0;
        Span<TracerRequest> course =
        [
            TracerProcess.WaitRequest(Tid, words),
            TracerProcess.PtraceRequest(Ptrace.PTRACE_SETOPTIONS, Tid, 0, options),
            TracerProcess.PtraceRequest(Ptrace.PTRACE_CONT, Tid),
            TracerProcess.WaitRequest(Tid, words + 1),
            TracerProcess.PtraceRequest(Ptrace.PTRACE_GETEVENTMSG, Tid, 0, (long)&born),
        ];
        int done = tracer.Invoke(course);
        if (done < course.Length - 1) return s_gone;
        WaitStatus status = new(words[1]);
        while (status.Stopped && status.Event != Ptrace.PTRACE_EVENT_CLONE)
        {
            if (Continue() != Errno.None || tracer.Wait(Tid, out status).Failed) return s_gone;
            tracer.Ptrace(Ptrace.PTRACE_GETEVENTMSG, Tid, 0, (long)&born);
        }
        if (status.Stopped) return born == 0 ? s_gone : new SyscallResult((long)born);
        return status.ExitCode is > 0 and var errno ? new SyscallResult(-errno) : s_gone;
    }

    /// <summary>Lets the task run until it has exited, and reaps it for the tracer.</summary>
    public void RunToTheEnd()
    {
        do Continue();
        while (!tracer.Wait(Tid, out WaitStatus status).Failed && status.Stopped);
    }
}
