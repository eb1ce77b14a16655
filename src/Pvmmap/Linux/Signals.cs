namespace Pvmmap.Linux;

/// <summary>Signal numbers (signal(7), x86-64 and arm64) and the calling thread's signal mask.</summary>
internal static unsafe class Signals
{
    public const int SIGKILL = 9;
    public const int SIGTRAP = 5;
    public const int SIGSTOP = 19;
    public const int SIGCHLD = 17;
    public const int SIGCONT = 18;
    public const int SIGURG = 23;
    public const int SIGXFSZ = 25;
    public const int SIGWINCH = 28;

    /// <summary>The signals whose default action is to be ignored, as the bits of a mask.</summary>
    public static ulong IgnoredByDefault => Bit(SIGCHLD) | Bit(SIGCONT) | Bit(SIGURG) | Bit(SIGWINCH);

    public static ulong Bit(int signal) => 1UL << (signal - 1);

    public const int SIG_BLOCK = 0;
    public const int SIG_SETMASK = 2;
    public const int MaskBytes = 8;

    /// <summary>Blocks every signal for the calling thread and returns the mask to put back.</summary>
    public static ulong BlockAll()
    {
        ulong all = ulong.MaxValue, old;
        SystemCall.Invoke(SystemCall.SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&old, MaskBytes);
        return old;
    }

    /// <summary>Blocks some more signals for the calling thread and returns the mask to put back.</summary>
    public static ulong Block(ulong signals)
    {
        ulong old;
        SystemCall.Invoke(SystemCall.SYS_rt_sigprocmask, SIG_BLOCK, (long)&signals, (long)&old, MaskBytes);
        return old;
    }

    /// <summary>Takes one of these signals, which are blocked, off the calling thread, if one is pending.</summary>
    public static void Discard(ulong signals)
    {
        Futex.TimeSpec now = default;
        SystemCall.Invoke(SystemCall.SYS_rt_sigtimedwait, (long)&signals, 0, (long)&now, MaskBytes);
    }

    public static void SetMask(ulong mask) =>
        SystemCall.Invoke(SystemCall.SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, MaskBytes);
}
