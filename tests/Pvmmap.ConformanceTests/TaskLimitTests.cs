using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>
/// Each task that the call starts may be the one too many: EAGAIN, and both processes are as before. The room grows by one task a time until the
/// call succeeds.
/// </summary>
public sealed class TaskLimitTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 4 * MiB;
    private const int Plenty = 16;
    private const int FirstUser = 100_000, Cases = 64;

    private static int users;

    [Theory]
    [MemberData(nameof(EachModeAndWayFixedOrNot))]
    public void Pids_max(Mode mode, Way way, bool fix)
    {
        Cgroup cgroup = Borrow(Cgroup.Pids());
        Attempt attempt = NewAttempt(mode, way, Length, fix);
        cgroup.Enter(attempt.Source.Pid, attempt.Target.Pid);
        Widen(attempt, room => cgroup["pids.max"] = cgroup["pids.current"] + room);
    }

    [Theory]
    [MemberData(nameof(EachModeAndWayFixedOrNot))]
    public void RLIMIT_NPROC(Mode mode, Way way, bool fix)
    {
        // A user of this case's own: the limit counts all tasks of a user, and a fill of the case before may just be ending.
        int user = FirstUser + (Environment.ProcessId * Cases) + Interlocked.Increment(ref users);
        Attempt attempt = NewAttempt(mode, way, Length, fix, load => NewPuppetOf(user, load));
        Widen(attempt, room =>
        {
            ulong tasks = ProcessStatus.TasksOf(user);
            attempt.Source.Limit(Rlimit.Tasks, tasks + room);
            attempt.Target.Limit(Rlimit.Tasks, tasks + room);
        });
    }

    private void Widen(Attempt attempt, Action<ulong> allow)
    {
        allow(0);
        Assert.Equal(Errno.EAGAIN, attempt.Make(Errno.EAGAIN));
        ulong room = 1;
        for (allow(room); attempt.Make(Errno.EAGAIN) != Errno.None; allow(room))
        {
            Assert.True(++room < Plenty, $"EAGAIN with room for {room - 1} tasks");
        }
    }
}
