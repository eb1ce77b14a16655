using Pvmmap.Holder;
using Pvmmap.Linux;
using Pvmmap.Remote;
using Xunit;

namespace Pvmmap.Tests.Remote;

public sealed unsafe class TracerProcessTests
{
    [Fact]
    public void While_an_answer_is_late_something_else_is_done_once()
    {
        using TracerProcess tracer = new();
        int done = 0;
        tracer.WhenIdle = () => done++;
        Assert.Equal(Errno.ETIMEDOUT, Sleep(tracer));
        Assert.Equal(1, done);
        Assert.Equal(Errno.ETIMEDOUT, Sleep(tracer));
        Assert.Equal(1, done);
        tracer.Confirm();
    }

    // 50 ms: an answer as late as that of a fork() of some GiB.
    private static Errno Sleep(TracerProcess tracer)
    {
        uint word = 1;
        Futex.TimeSpec limit = new() { Nanoseconds = 50_000_000 };
        Span<TracerRequest> requests = [TracerProcess.SleepRequest((ulong)&word, 1, &limit)];
        Assert.Equal(0, tracer.Invoke(requests));
        return new SyscallResult(requests[0].Result).Errno;
    }
}
