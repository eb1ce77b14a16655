using Pvmmap.ConformanceTests.Stage;
using Pvmmap.Snapshots;

namespace Pvmmap.ConformanceTests;

/// <summary>A capture for which there is no task, no memory or no room: the errno that its documentation names, and the source as found. With more room it succeeds.</summary>
public sealed class SnapshotLimitTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 4 * MiB, GiB = 1024 * MiB;
    private const int Plenty = 16;
    private const int User = 300_000;

    [Fact]
    public void Pids_max()
    {
        Cgroup cgroup = Borrow(Cgroup.Pids());
        Puppet source = NewPuppet();
        ulong at = Furnish(source);
        cgroup.Enter(source.Pid);
        ulong tasks = cgroup["pids.current"];
        Widen(source, at, Errno.EAGAIN, room => cgroup["pids.max"] = tasks + room, atLeast: 1);
        // the keeper is in the caller's cgroup by now, or gone
        Assert.Equal(tasks, cgroup["pids.current"]);
    }

    [Fact]
    public void RLIMIT_NPROC()
    {
        // A user of this run's own: the limit counts all tasks of a user.
        int user = User + Environment.ProcessId;
        Puppet source = NewPuppetOf(user);
        ulong at = Furnish(source);
        Widen(source, at, Errno.EAGAIN, room => source.Limit(Rlimit.Tasks, ProcessStatus.TasksOf(user) + room), atLeast: 1);
    }

    [Fact]
    public void RLIMIT_AS()
    {
        Puppet source = NewPuppet();
        ulong at = Furnish(source), used = ProcessStatus.Figure(source.Pid, "VmSize");
        // a page at a time, in which the keeper's own code does not fit
        Widen(source, at, Errno.ENOMEM, room => source.Limit(Rlimit.AddressSpace, used + room * 8 * Page), atLeast: 1);
    }

    [Fact]
    public void Strict_overcommit()
    {
        Puppet source = NewPuppet();
        ulong at = Furnish(source);
        source.Map(4 * GiB);
        using (new Overcommit(3 * GiB)) AssertRefused(source, at, Errno.ENOMEM);
        using (new Overcommit(6 * GiB)) AssertCaptured(source, at);
    }

    [Fact]
    public void No_free_descriptor_is_no_obstacle()
    {
        Puppet source = NewPuppet();
        ulong at = Furnish(source);
        source.Limit(Rlimit.Files, (ulong)ProcessStatus.Descriptors(source.Pid));
        Assert.Equal(-(long)Errno.EMFILE, source.Syscall(Sys.dup, 0));
        AssertCaptured(source, at);
    }

    [Fact]
    public void As_many_mappings_as_the_kernel_allows()
    {
        Puppet source = NewPuppet();
        ulong at = Furnish(source), lowest = source.Fragment(1 << 20);
        AssertRefused(source, at, Errno.ENOMEM);
        source.Unmap(lowest, Plenty * Page);
        AssertCaptured(source, at);
    }

    private static ulong Furnish(Puppet source)
    {
        ulong at = source.MapFilled(Length, 1), withheld = source.Map(Length);
        source.Must(source.Advise(withheld, Length, Madv.WipeOnFork), "madvise");
        source.Fill(withheld, Length, 2);
        source.StartIdlers(5);
        return at;
    }

    private static void Widen(Puppet source, ulong at, Errno refusal, Action<ulong> allow, ulong atLeast)
    {
        ulong room = 0;
        for (allow(room); Attempt(source, at) is { } errno; allow(room))
        {
            Assert.True(errno == refusal, $"with room for {room}: expected {refusal}, got {errno}");
            Assert.True(++room < Plenty, $"{refusal} with room for {room - 1}");
        }
        Assert.True(room >= atLeast, "it was not refused");
    }

    private static void AssertRefused(Puppet source, ulong at, Errno errno) => Assert.Equal(errno, Attempt(source, at));

    private static void AssertCaptured(Puppet source, ulong at) => Assert.Null(Attempt(source, at));

    /// <summary>Captures it, and looks at the process afterwards, and at the content.</summary>
    /// <returns>The errno; null if it was captured.</returns>
    private static Errno? Attempt(Puppet source, ulong at)
    {
        ProcessRecord before = ProcessRecord.TakeAtRest(source.Pid);
        Errno? refusal = null;
        try
        {
            using ProcessSnapshot snapshot = ProcessSnapshot.Capture(source.Pid);
            byte[] word = new byte[8];
            for (ulong page = 0; page < Length / Page; page += 16)
            {
                snapshot.Read(at + page * Page, word);
                Assert.Equal(Pattern.FirstWord(1, page), BitConverter.ToUInt64(word));
            }
        }
        catch (PvmmapException e)
        {
            refusal = e.Errno;
        }
        before.AssertUnchanged();
        Assert.Equal("", source.Awake());
        source.AssertContent(at, Length, 1);
        return refusal;
    }
}
