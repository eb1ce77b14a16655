using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Pvmmap.Holder.Freestanding;

/// <summary>How a holder or a guardian ends. After a move nothing of it may stay in the source's memory, its own code included.</summary>
internal static unsafe class Departure
{
    private const long SIG_SETMASK = 2;
    private const long ITIMER_REAL = 0;
    private const int SIGEV_SIGNAL = 0;
    private const long VanishMicroseconds = 50_000;

    /// <summary>Publishes the last state, takes everything away and ends this process.</summary>
    public static void Leave(Service* service, uint state)
    {
        KernelEntry call = service->Call;
        ControlPage* control = service->Control;
        bool inSource = control->Move != 0 && !service->IsSentinel;
        if (inSource)
        {
            FillWorker.End(service);
            AttributeProbe.Restore(service);
            Kernel.Unmap(call, control->ReservedStart, control->ReservedLength);
            Steps.Reached(call, FillStep.PlaceUnmapped);
        }
        control->EndedAt = Kernel.Now(call);
        if (!ControlState.IsFinal(Published.Read(&control->State)))
            Published.Write(&control->State, state);
        Kernel.Wake(call, &control->State);
        Steps.Reached(call, FillStep.EndPublished);
        if (!inSource)
            Kernel.Exit(call, 0);
        uint without = control->Without;
        ulong image = control->ImageStart;
        ulong length = control->ImageLength;
        if (!service->Recovering && !service->IsGuardian)
            EndGuardian(call, control);
        Steps.Reached(call, FillStep.GuardianEnded);
        Kernel.Unmap(call, (ulong)control, ControlPage.Size);
        Steps.Reached(call, FillStep.ControlUnmapped);
        Vanish(call, image, length, without);
    }

    // It sleeps in the kernel and never comes back to the code that is about to go.
    private static void EndGuardian(KernelEntry call, ControlPage* control)
    {
        if (control->GuardianPid == 0)
            return;
        call(SystemCalls.kill, control->GuardianPid, Kernel.SIGKILL, 0, 0, 0, 0);
        while (call(SystemCalls.wait4, control->GuardianPid, 0, Kernel.__WALL, 0, 0, 0) == Kernel.EINTR)
        {
        }
    }

    /// <summary>
    /// Unmaps the code that this process runs on, its stack too, and ends. munmap() of memory that a userfaultfd watches returns only when its
    /// event is read: nobody reads it, and a timer ends the process while it waits in the kernel.
    /// </summary>
    [SkipLocalsInit]
    public static void Vanish(KernelEntry call, ulong image, ulong length, uint without)
    {
        TouchStack(4);
        int watch = Userfaultfd.Watch(call, image, length, without);
        // Without one the image stays behind, some pages of the source.
        if (watch < 0)
            Kernel.Exit(call, 0);
        Steps.Reached(call, FillStep.ImageWatched);
        // The socket stays: its end tells the caller that nobody runs on this code any more.
        const int watchFd = HolderFds.Socket + 1;
        Kernel.MoveDescriptor(call, watch, watchFd);
        OpenFiles.CloseFrom(call, watchFd + 1, without);
        EndSoon(call);
        call(SystemCalls.munmap, (long)image, (long)length, 0, 0, 0, 0);
        Kernel.Exit(call, 0);
    }

    // A page of it that is touched for the first time behind that would be missing, and nobody there to bring it.
    [MethodImpl(MethodImplOptions.NoInlining)]
    [SkipLocalsInit]
    private static void TouchStack(int frames)
    {
        StackRoom room;
        Published.Write(&room.First, (ulong)frames);
        if (frames > 1)
            TouchStack(frames - 1);
        // Read behind the call: so the frame stays.
        if (Published.Read(&room.First) != (ulong)frames)
            Published.Write(&room.First, 0);
    }

    // Less than a page: more, and the compiler asks for a helper that looks for the end of the stack.
    [StructLayout(LayoutKind.Sequential, Size = 3 * 1024)]
    private struct StackRoom
    {
        public ulong First;
    }

    // By SIGKILL: the wait is one that only a fatal signal ends, and under a debugger no other is fatal at once.
    [SkipLocalsInit]
    private static void EndSoon(KernelEntry call)
    {
        TimerEvent ending;
        ending.Value = 0;
        ending.Signal = (int)Kernel.SIGKILL;
        ending.Notify = SIGEV_SIGNAL;
        int id;
        if (call(SystemCalls.timer_create, Kernel.CLOCK_MONOTONIC, (long)&ending, (long)&id, 0, 0, 0) < 0)
        {
            AlarmSoon(call);
            return;
        }
        TimerSetting setting;
        setting.IntervalSeconds = 0;
        setting.IntervalNanoseconds = 0;
        setting.Seconds = 0;
        setting.Nanoseconds = VanishMicroseconds * 1000;
        call(SystemCalls.timer_settime, id, 0, (long)&setting, 0, 0, 0);
    }

    // Where RLIMIT_SIGPENDING leaves no timer. The default action of SIGALRM ends the process without a core dump; the source may have a handler.
    [SkipLocalsInit]
    private static void AlarmSoon(KernelEntry call)
    {
        SignalAction action;
        action.Handler = 0;
        action.Flags = 0;
        action.Restorer = 0;
        action.Mask = 0;
        call(SystemCalls.rt_sigaction, Kernel.SIGALRM, (long)&action, 0, 8, 0, 0);
        TimerValue timer;
        timer.IntervalSeconds = 0;
        timer.IntervalMicroseconds = 0;
        timer.Seconds = 0;
        timer.Microseconds = VanishMicroseconds;
        ulong mask = ~(1UL << (int)(Kernel.SIGALRM - 1));
        call(SystemCalls.setitimer, ITIMER_REAL, (long)&timer, 0, 0, 0, 0);
        call(SystemCalls.rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, 8, 0, 0);
    }

    // struct sigaction of the kernel, x86-64.
    private struct SignalAction
    {
        public ulong Handler;
        public ulong Flags;
        public ulong Restorer;
        public ulong Mask;
    }

    // struct itimerval.
    private struct TimerValue
    {
        public long IntervalSeconds;
        public long IntervalMicroseconds;
        public long Seconds;
        public long Microseconds;
    }

    // struct sigevent; the rest belongs to other ways of notifying.
    [StructLayout(LayoutKind.Sequential, Size = 64)]
    private struct TimerEvent
    {
        public ulong Value;
        public int Signal;
        public int Notify;
    }

    // struct itimerspec.
    private struct TimerSetting
    {
        public ulong IntervalSeconds;
        public ulong IntervalNanoseconds;
        public ulong Seconds;
        public ulong Nanoseconds;
    }
}
