using System.Globalization;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>Source and target are as before: maps outside the range, descriptors, children, masks, pending signals, threads in their calls.</summary>
public sealed class UntouchedTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 8 * MiB;

    public static TheoryData<Way, MmapFlags> WaysAndFills => new MatrixTheoryData<Way, MmapFlags>(
        Enum.GetValues<Way>(), [MmapFlags.None, MmapFlags.Lazy, MmapFlags.Populate]);

    [Theory]
    [MemberData(nameof(WaysAndFills))]
    public void Nothing_but_the_range_is_another(Way way, MmapFlags fill)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong at = MapFilled(source, Length, 1), place = MapFilled(target, Length, 2);
        foreach (AddressSpace space in (AddressSpace[])[source, target])
            if (space is Puppet puppet) MakeInteresting(puppet);
        ProcessRecord[] before = Snapshots(source, target, place);
        MmapResult result = Call(source, target, at, Length, place, MmapFlags.Fixed | fill);
        AssertUnchanged(before, target, place);
        result.Duplication.Finish();
        AssertCompletes(result);
        AssertUnchanged(before, target, place);
        target.AssertContent(place, Length, 1);
    }

    [Fact]
    public void A_call_that_places_freely_adds_one_mapping()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        ProcessRecord sourceBefore = ProcessRecord.TakeAtRest(source.Pid), targetBefore = ProcessRecord.TakeAtRest(target.Pid);
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Lazy);
        sourceBefore.AssertUnchanged();
        targetBefore.AssertUnchanged(new PageRange(result.Address, result.Address + Length));
        result.Duplication.Finish();
        AssertCompletes(result);
        target.Unmap(result.Address, Length);
        targetBefore.AssertUnchanged();
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void A_stopped_process_stays_stopped(Way way)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong at = MapFilled(source, Length, 1), place = MapFilled(target, Length, 2);
        Puppet[] stopped = [.. new[] { source, target }.OfType<Puppet>()];
        foreach (Puppet puppet in stopped)
        {
            puppet.StartIdlers(3);
            Stop(puppet);
        }
        ProcessRecord[] before = Snapshots(source, target, place);
        MmapResult result = Call(source, target, at, Length, place, MmapFlags.Fixed);
        AssertCompletes(result);
        AssertUnchanged(before, target, place);
        foreach (Puppet puppet in stopped)
        {
            Assert.Equal('T', ProcessStatus.State(puppet.Pid));
            Libc.Kill(puppet.Pid, Libc.SIGCONT);
        }
        source.AssertContent(at, Length, 1);
        target.AssertContent(place, Length, 1);
    }

    [Fact]
    public void A_stopped_source_and_target_of_calls_that_fail_stay_stopped()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1), place = target.MapFilled(Length, 2);
        Stop(source);
        Stop(target);
        ProcessRecord[] before = Snapshots(source, target, place);
        Refused(Errno.EEXIST, source, target, at, Length, place, MmapFlags.FixedNoReplace);
        Refused(Errno.EFAULT, source, target, at, Length + Page, place, MmapFlags.Fixed);
        AssertUnchanged(before, target, place);
        foreach (Puppet puppet in (Puppet[])[source, target])
        {
            Assert.Equal('T', ProcessStatus.State(puppet.Pid));
            Libc.Kill(puppet.Pid, Libc.SIGCONT);
            Assert.True(puppet.Scratch > 0);
        }
    }

    [Fact]
    public void Busy_threads_go_on()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1), place = target.MapFilled(Length, 1);
        source.StartHammers(4, at, Length, 1, 1);
        target.StartHammers(4, place, Length, 1, 1);
        for (int round = 0; round < 30; round++)
        {
            MmapResult result = Call(source, target, at, Length, place, MmapFlags.Fixed);
            AssertCompletes(result);
        }
        foreach (Puppet puppet in (Puppet[])[source, target])
        {
            ulong rounds = puppet.Tally().Rounds;
            Eventually.Holds(() => puppet.Tally().Rounds > rounds + 1000, "the threads still run");
            puppet.JoinThreads();
            Assert.True(puppet.Tally() is { Zero: 0, Other: 0, Faults: 0 }, puppet.Tally().ToString());
        }
    }

    [Fact]
    public void The_caller_keeps_its_descriptors_threads_children_and_signals()
    {
        // a puppet calls, through the C function; a first call lets the library's runtime settle
        Puppet caller = NewPuppet().LoadLibrary(), other = NewPuppet();
        ulong own = caller.MapFilled(Length, 1), place = other.MapFilled(Length, 2), back = caller.MapFilled(Length, 3);
        void Both()
        {
            Assert.Equal((long)place, caller.Call(-other.Pid, own, Length, place, MmapFlags.Fixed | MmapFlags.Populate).Result);
            Assert.Equal((long)back, caller.Call(other.Pid, place, Length, back, MmapFlags.Fixed | MmapFlags.Populate).Result);
        }
        Both();
        Puppet child = ForkOf(caller);
        ProcessRecord before = ProcessRecord.TakeOfCaller(caller.Pid);
        for (int round = 0; round < 10; round++) Both();
        before.AssertUnchanged();
        Assert.Equal([child.Pid], ProcessStatus.Children(caller.Pid));
        caller.AssertContent(back, Length, 1);
    }

    private static void Stop(Puppet puppet)
    {
        Libc.Kill(puppet.Pid, Libc.SIGSTOP);
        Eventually.Equals('T', () => ProcessStatus.State(puppet.Pid), "the process stops");
    }

    /// <summary>Threads in several system calls, blocked and pending signals, a child, odd descriptors.</summary>
    private void MakeInteresting(Puppet puppet)
    {
        puppet.StartIdlers(5);
        ForkOf(puppet);
        ulong scratch = puppet.Scratch;
        puppet.Must(puppet.Syscall(Sys.pipe2, (long)scratch, 0), "pipe2");
        Eventually.Equals(6, () => Directory.EnumerateDirectories($"/proc/{puppet.Pid}/task").Count(), "the idlers start");
        // each idler blocks SIGRTMIN + 3 + its index: sent to that thread, it stays pending there
        int index = 0;
        foreach (int tid in Directory.EnumerateDirectories($"/proc/{puppet.Pid}/task")
            .Select(task => int.Parse(Path.GetFileName(task), CultureInfo.InvariantCulture)).Where(tid => tid != puppet.Pid).Order())
        {
            int signal = 34 + 3 + index++;
            Eventually.Holds(() => Blocks(puppet.Pid, tid, signal), $"thread {tid} blocks signal {signal}");
            Assert.Equal(0L, Own.Syscall(Sys.tgkill, puppet.Pid, tid, signal));
        }
    }

    private static bool Blocks(int pid, int tid, int signal)
    {
        string line = File.ReadLines($"/proc/{pid}/task/{tid}/status").First(line => line.StartsWith("SigBlk:", StringComparison.Ordinal));
        return (ulong.Parse(line[7..].Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture) >> (signal - 1) & 1) != 0;
    }

    private static ProcessRecord[] Snapshots(AddressSpace source, AddressSpace target, ulong place) =>
        [.. new[] { source, target }.OfType<Puppet>().Select(puppet => ProcessRecord.TakeAtRest(puppet.Pid, Except(puppet, target, place)))];

    private static void AssertUnchanged(ProcessRecord[] before, AddressSpace target, ulong place)
    {
        foreach (ProcessRecord snapshot in before)
            snapshot.AssertUnchanged(snapshot.Pid == target.Pid ? [new PageRange(place, place + Length)] : []);
    }

    private static PageRange[] Except(Puppet puppet, AddressSpace target, ulong place) =>
        puppet == target ? [new PageRange(place, place + Length)] : [];
}
