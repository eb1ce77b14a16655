using System.Globalization;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>Who calls, seen from source and target.</summary>
public enum Way
{
    /// <summary>From another process into the caller.</summary>
    Pull,

    /// <summary>From the caller into another process.</summary>
    Push,

    /// <summary>The caller is neither.</summary>
    ThirdParty,
}

/// <summary>How the calls of a scene are made.</summary>
public enum Through
{
    /// <summary>By the .NET method, in the test's own process.</summary>
    Method,

    /// <summary>By a puppet with the library loaded, which is source or target.</summary>
    CFunction,
}

/// <summary>
/// What each test class stands on: makes puppets and calls, and at the end of each test kills the puppets, unmaps what lies in the test's own
/// memory, and looks that nothing of the library is left in any process.
/// </summary>
public abstract class Scene(Theatre theatre) : IDisposable
{
    protected const ulong Page = PageRange.PageSize, MiB = 1 << 20;

    private readonly List<Actor> _actors = [];
    private readonly List<int> _programs = [];
    private readonly List<Duplication> _duplications = [];
    private readonly List<PageRange> _own = [];
    private readonly List<IDisposable> _borrowed = [];

    public static TheoryData<Way> Ways => [Way.Pull, Way.Push, Way.ThirdParty];

    public static TheoryData<Mode> EachMode => [.. Modes.All];

    public static TheoryData<Mode, Way> EachModeAndWay => new MatrixTheoryData<Mode, Way>(Modes.All, Enum.GetValues<Way>());

    public static TheoryData<Mode, Way, bool> EachModeAndWayFixedOrNot =>
        new MatrixTheoryData<Mode, Way, bool>(Modes.All, Enum.GetValues<Way>(), [false, true]);

    protected Theatre Theatre { get; } = theatre;

    protected OwnProcess Own { get; } = new();

    /// <summary>A class whose tests are to be run through the C function too has a derived one that says so here.</summary>
    protected virtual Through Through => Through.Method;

    /// <summary>Where calls go through the C function each puppet can be the caller.</summary>
    protected Puppet NewPuppet() => Through == Through.CFunction ? NewBarePuppet().LoadLibrary() : NewBarePuppet();

    private Puppet NewBarePuppet() => Cast(new Puppet(Theatre, Theatre.Start(Theatre.Program("puppet"), Theatre.Door), fromNursery: true));

    /// <summary>A puppet started through another command, setpriv for instance.</summary>
    protected Puppet NewPuppet(params string[] through) =>
        Cast(new Puppet(Theatre, Theatre.Start([.. through, Theatre.Program("puppet"), Theatre.Door]), fromNursery: true));

    /// <summary>A puppet of another user, without capabilities; with the library loaded if it is to be the caller.</summary>
    protected Puppet NewPuppetOf(int user, bool load = false)
    {
        Machine.RequireRoot();
        Machine.RequireProgram("setpriv");
        string id = user.ToString(CultureInfo.InvariantCulture);
        Puppet puppet = NewPuppet("setpriv", $"--reuid={id}", $"--regid={id}", "--clear-groups");
        if (!load) return puppet;
        // the build's folder may not be open to others
        string library = Theatre.Program("libprocess_vm_mmap.so");
        Assert.True(File.Exists(Theatre.Library), $"{Theatre.Library} is not there: run ./build first");
        if (!File.Exists(library)) File.Copy(Theatre.Library, library);
        File.SetUnixFileMode(library, (UnixFileMode)Convert.ToInt32("755", 8));
        return puppet.LoadLibrary(library);
    }

    /// <summary>A puppet that the command does not become but starts as its only child: unshare --fork, nsenter --pid.</summary>
    protected Puppet NewPuppetBehind(params string[] command)
    {
        Machine.RequireRoot();
        int starter = NewProgram([.. command, Theatre.Program("puppet"), Theatre.Door]);
        int child = 0;
        Eventually.Holds(() => (child = ProcessStatus.Children(starter).FirstOrDefault()) != 0, $"{command[0]} starts the puppet");
        return Cast(new Puppet(Theatre, child, fromNursery: false));
    }

    protected Puppet ForkOf(Puppet parent) => Cast(parent.Fork());

    protected Actor NewActor(params string[] command) => Cast(new Actor(Theatre, Theatre.Start([.. command, Theatre.Door]), fromNursery: true));

    /// <summary>A program that does not connect; killed at the end of the test.</summary>
    protected int NewProgram(params string[] command)
    {
        int pid = Theatre.Start(command);
        _programs.Add(pid);
        return pid;
    }

    protected T Cast<T>(T actor)
        where T : Actor
    {
        _actors.Add(actor);
        return actor;
    }

    /// <summary>Something of the machine: given back at the end of the test, when the actors are gone, whatever it came to.</summary>
    protected T Borrow<T>(T machinery)
        where T : IDisposable
    {
        _borrowed.Add(machinery);
        return machinery;
    }

    protected (AddressSpace Source, AddressSpace Target) Pair(Way way) => (Through, way) switch
    {
        (Through.CFunction, Way.Pull) => (NewBarePuppet(), NewPuppet()),
        (Through.CFunction, Way.Push) => (NewPuppet(), NewBarePuppet()),
        (Through.CFunction, _) => throw new InvalidOperationException("the C function's caller is source or target"),
        (_, Way.Pull) => (NewPuppet(), Own),
        (_, Way.Push) => (Own, NewPuppet()),
        _ => (NewPuppet(), NewPuppet()),
    };

    /// <summary>A mapping in any of the two; the test's own are unmapped at its end.</summary>
    protected ulong Map(AddressSpace space, ulong length, Prot protection = Prot.ReadWrite, MapFlags flags = 0, ulong at = 0)
    {
        ulong address = space.Map(length, protection, flags, at);
        if (space is OwnProcess) _own.Add(new PageRange(address, address + length));
        return address;
    }

    protected ulong MapFilled(AddressSpace space, ulong length, ulong seed, ulong step = 1)
    {
        ulong address = Map(space, length);
        space.Fill(address, length, seed, 0, step);
        return address;
    }

    protected void UnmapAtEnd(ulong address, ulong length) => _own.Add(new PageRange(address, address + length));

    /// <summary>The call in the form that fits who source and target are.</summary>
    protected MmapResult Call(
        AddressSpace source, AddressSpace target, ulong address, ulong length, ulong at = 0, MmapFlags flags = MmapFlags.None)
    {
        MmapResult result = (source, target) switch
        {
            (_, OwnProcess) => ProcessVm.Mmap(source.Pid, address, length, at, flags),
            (OwnProcess, _) => ProcessVm.Mmap(-target.Pid, address, length, at, flags),
            _ when Through == Through.CFunction => CallThroughCFunction((Puppet)source, (Puppet)target, address, length, at, flags),
            _ => ProcessVm.MmapBetween(source.Pid, target.Pid, address, length, at, flags),
        };
        if (source is OwnProcess && flags.HasFlag(MmapFlags.Move) && PageRange.TryRoundOutward(address, length, out PageRange moved)) Forget(moved);
        Remember(result, target);
        return result;
    }

    // What has been moved out is not the test's any more: by now a control page may lie there.
    private void Forget(PageRange moved)
    {
        PageRange[] overlapped = [.. _own.Where(range => range.Overlaps(moved))];
        _own.RemoveAll(range => range.Overlaps(moved));
        foreach (PageRange range in overlapped)
        {
            if (range.Start < moved.Start) _own.Add(new PageRange(range.Start, moved.Start));
            if (moved.End < range.End) _own.Add(new PageRange(moved.End, range.End));
        }
    }

    // By the target if it can. All that the function tells is an address or an errno; a fill that is still under way is found as pvmmap ps does.
    private static MmapResult CallThroughCFunction(Puppet source, Puppet target, ulong address, ulong length, ulong at, MmapFlags flags)
    {
        Puppet caller = target.HasLibrary ? target : source;
        Assert.True(caller.HasLibrary, $"neither {source.Pid} nor {target.Pid} has the library");
        long result;
        Errno errno;
        // one line leads to each puppet, however many threads of the test call
        lock (caller) (result, errno) = caller.Call(caller == target ? source.Pid : -target.Pid, address, length, at, flags);
        _ = PageRange.TryRoundOutward(address, length, out PageRange range);
        if (errno != Errno.None) throw new PvmmapException(errno, "process_vm_mmap", caller == target ? source.Pid : target.Pid, range);
        Duplication? fill = null;
        foreach (Duplication running in Duplication.Running())
        {
            if (fill is null && running.TargetPid == target.Pid && running.Address == (ulong)result) fill = running;
            else running.Dispose();
        }
        return new MmapResult
        {
            Address = (ulong)result,
            DataAddress = (ulong)result + (address - range.Start),
            Length = range.Length,
            // as of the kernel's call: nothing to be followed
            Duplication = fill ?? new Duplication(source.Pid, target.Pid, range, (ulong)result, flags.HasFlag(MmapFlags.Move), target: null),
            Backend = fill is null ? Backend.Kernel : Backend.UserSpace,
            CallTime = TimeSpan.Zero,
            SourceStopTime = TimeSpan.Zero,
            TargetStopTime = TimeSpan.Zero,
        };
    }

    /// <summary>A call between two new puppets, the caller among them: for what must not happen to the test's own process.</summary>
    /// <param name="mode">What is to become of the source range.</param>
    /// <param name="way">Which of the two is the caller, if any.</param>
    /// <param name="length">Bytes, a multiple of the page size.</param>
    /// <param name="fix">The call replaces memory of the target's.</param>
    /// <param name="make">Makes a puppet, with the library loaded if it is told so.</param>
    /// <param name="more">Flags besides.</param>
    protected Attempt NewAttempt(Mode mode, Way way, ulong length, bool fix = false, Func<bool, Puppet>? make = null, MmapFlags more = MmapFlags.None)
    {
        make ??= load => load ? NewPuppet().LoadLibrary() : NewPuppet();
        return new Attempt(mode, way, make(way == Way.Push), make(way == Way.Pull), length, fix, Call, more);
    }

    private (ulong Address, Errno Errno) Call(Attempt attempt)
    {
        (long result, Errno errno) = attempt.Way switch
        {
            Way.Pull => attempt.Target.Call(attempt.Source.Pid, attempt.At, attempt.Length, attempt.Place, attempt.Flags),
            Way.Push => attempt.Source.Call(-attempt.Target.Pid, attempt.At, attempt.Length, attempt.Place, attempt.Flags),
            _ => Caught(() => (long)Call(attempt.Source, attempt.Target, attempt.At, attempt.Length, attempt.Place, attempt.Flags).Address),
        };
        return errno == Errno.None ? ((ulong)result, errno) : (0, errno);
    }

    private static (long Result, Errno Errno) Caught(Func<long> call)
    {
        try
        {
            return (call(), Errno.None);
        }
        catch (PvmmapException e)
        {
            return (-1, e.Errno);
        }
    }

    protected void Remember(MmapResult result, AddressSpace target)
    {
        lock (_duplications) _duplications.Add(result.Duplication);
        if (target is OwnProcess) UnmapAtEnd(result.Address, result.Length);
    }

    /// <summary>The call must fail with this errno.</summary>
    protected PvmmapException Refused(
        Errno errno, AddressSpace source, AddressSpace target, ulong address, ulong length, ulong at = 0, MmapFlags flags = MmapFlags.None)
    {
        var exception = Assert.Throws<PvmmapException>(() => Call(source, target, address, length, at, flags));
        Assert.True(exception.Errno == errno, $"expected {errno}, got: {exception.Message}");
        return exception;
    }

    /// <summary>Waits until every page is in place.</summary>
    protected static void AssertCompletes(MmapResult result, int seconds = 30) => AssertCompletes(result.Duplication, seconds);

    protected static void AssertCompletes(Duplication duplication, int seconds = 30)
    {
        Assert.True(duplication.Wait(Patience.Of(seconds)), $"fill not done after {Patience.Of(seconds).TotalSeconds} s: {Describe(duplication)}");
        Assert.True(duplication.State == DuplicationState.Complete, Describe(duplication));
        Assert.Equal(0UL, duplication.BytesToGo);
    }

    protected static void AssertEnds(Duplication duplication, DuplicationState state, int seconds = 20)
    {
        Assert.True(duplication.Wait(Patience.Of(seconds)), $"fill not ended after {Patience.Of(seconds).TotalSeconds} s: {Describe(duplication)}");
        Assert.True(duplication.State == state, $"expected {state}: {Describe(duplication)}");
        Eventually.Holds(() => !Leftovers.IsOurs(duplication.HolderPid), $"holder {duplication.HolderPid} ends");
        Eventually.Holds(() => !Leftovers.IsOurs(duplication.GuardianPid), $"guardian {duplication.GuardianPid} ends");
    }

    protected static void AssertAllZero(AddressSpace space, ulong at, ulong length)
    {
        // nothing has seed 0 and a step beyond the end: every page must be zeros
        Census seen = space.Examine(at, length, 0, firstPage: 1, step: 1UL << 40);
        Assert.True(seen.Good == length / Page, $"process {space.Pid}, 0x{at:x} + {length} should be zeros: {seen}");
    }

    protected static string Describe(Duplication d) =>
        $"{d.SourcePid} -> {d.TargetPid} {d.Address:x}+{d.Length} {d.State}, {d.BytesToGo} of {d.BytesTotal} to go, {d.FaultsServed} faults, "
        + $"holder {d.HolderPid}, guardian {d.GuardianPid}";

    /// <summary>Waits until nothing is owed to a puppet, whoever made the calls.</summary>
    protected static void WaitForFills(Puppet target) => Eventually.Holds(
        () =>
        {
            IReadOnlyList<Duplication> running = Duplication.Running();
            foreach (Duplication fill in running) fill.Dispose();
            return running.All(fill => fill.TargetPid != target.Pid);
        },
        $"the fills into {target.Pid} end");

    public virtual void Dispose()
    {
        GC.SuppressFinalize(this);
        try
        {
            foreach (int pid in _programs.Where(pid => Theatre.Nursery.Ended(pid) is null)) Libc.Kill(pid, Libc.SIGKILL);
            // the latest first: a tracer goes before its tracee, a child before its parent
            foreach (Actor actor in Enumerable.Reverse(_actors)) actor.Dispose();
            foreach (PageRange range in _own) Own.Unmap(range.Start, range.Length);
            Leftovers.AssertNone(Theatre, _duplications);
            foreach (Duplication duplication in _duplications) duplication.Dispose();
        }
        finally
        {
            foreach (IDisposable machinery in Enumerable.Reverse(_borrowed)) machinery.Dispose();
        }
    }
}
