using System.Diagnostics;
using System.Runtime.InteropServices;

namespace Pvmmap.Linux;

/// <summary>poll(2).</summary>
internal static unsafe partial class Poll
{
    public const short POLLIN = 1;
    public const short POLLOUT = 4;
    public const short POLLHUP = 0x10;

    [StructLayout(LayoutKind.Sequential)]
    public struct PollFd
    {
        public int Fd;
        public short Events;
        public short Revents;
    }

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    private static partial int LibcPoll(PollFd* fds, nuint count, int milliseconds);

    /// <summary>Waits until the descriptor is readable, hung up or the time is over. <see cref="Timeout.InfiniteTimeSpan"/> waits for ever.</summary>
    public static bool Readable(FileDescriptor fd, TimeSpan timeout) => Is(POLLIN, fd, timeout);

    /// <summary>Waits until the descriptor takes more, or never will.</summary>
    public static void AwaitWritable(FileDescriptor fd) => Is(POLLOUT, fd, Timeout.InfiniteTimeSpan);

    private static bool Is(short events, FileDescriptor fd, TimeSpan timeout)
    {
        long begin = Stopwatch.GetTimestamp();
        while (true)
        {
            int left = -1;
            if (timeout != Timeout.InfiniteTimeSpan)
                left = (int)Math.Clamp(Math.Ceiling((timeout - Stopwatch.GetElapsedTime(begin)).TotalMilliseconds), 0, int.MaxValue);
            PollFd poll = new() { Fd = fd.Number, Events = events };
            int ready = LibcPoll(&poll, 1, left);
            if (ready > 0) return true;
            if (ready == 0) return false;
            if (Marshal.GetLastPInvokeError() != (int)Errno.EINTR)
                throw new PvmmapException((Errno)Marshal.GetLastPInvokeError(), "poll");
        }
    }
}
