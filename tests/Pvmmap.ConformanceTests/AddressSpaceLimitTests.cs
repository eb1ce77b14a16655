using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>
/// RLIMIT_AS, RLIMIT_DATA, vm.max_map_count and strict overcommit, in the source and in the target: ENOMEM and everything as before, or success. And what is sealed.
/// The room grows step by step until the call succeeds, so that each of its steps is once the one that fails.
/// </summary>
public sealed class AddressSpaceLimitTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Pages = 24, GiB = 1024 * MiB;

    // for the holder's own code, stacks and tables, and the place where the pages of a move go
    private const ulong Plenty = 256, PlentyOfMappings = 32;

    public static TheoryData<Mode, Way, bool, Rlimit> TargetLimits => new MatrixTheoryData<Mode, Way, bool, Rlimit>(
        Modes.All, [Way.Push, Way.ThirdParty], [false, true], [Rlimit.AddressSpace, Rlimit.Data]);

    public static TheoryData<Mode, Way, Rlimit> SourceLimits => new MatrixTheoryData<Mode, Way, Rlimit>(
        Modes.All, [Way.Pull, Way.ThirdParty], [Rlimit.AddressSpace, Rlimit.Data]);

    public static TheoryData<Mode, bool> EachModeFixedOrNot => new MatrixTheoryData<Mode, bool>(Modes.All, [false, true]);

    public static TheoryData<Mode, bool, ulong> Headrooms => new MatrixTheoryData<Mode, bool, ulong>(Modes.All, [false, true], [3, 5, 20]);

    [Theory]
    [MemberData(nameof(TargetLimits))]
    public void Rlimits_of_the_target(Mode mode, Way way, bool fix, Rlimit limit) =>
        Widen(NewAttempt(mode, way, Pages * Page, fix), attempt => attempt.Target, limit);

    [Theory]
    [MemberData(nameof(SourceLimits))]
    public void Rlimits_of_the_source(Mode mode, Way way, Rlimit limit) =>
        Widen(NewAttempt(mode, way, Pages * Page), attempt => attempt.Source, limit);

    /// <summary>The holder, a fork, needs more than that, and has it of what it gives up.</summary>
    [Theory]
    [InlineData(Rlimit.AddressSpace)]
    [InlineData(Rlimit.Data)]
    public void A_source_with_room_for_a_few_pages_has_enough(Rlimit limit)
    {
        Attempt attempt = NewAttempt(Mode.Copy, Way.ThirdParty, MiB);
        attempt.Source.MapFilled(4 * MiB, 3);
        attempt.Source.Limit(limit, Used(attempt.Source, limit) + (6 * Page));
        Assert.Equal(Errno.None, attempt.Make(Errno.ENOMEM));
    }

    [Theory]
    [MemberData(nameof(EachModeFixedOrNot))]
    public void Map_count_of_the_target(Mode mode, bool fix) => FreeOneByOne(NewAttempt(mode, Way.ThirdParty, Pages * Page, fix), a => a.Target);

    /// <summary>The region is complete before it takes its place, and then its place is refused.</summary>
    [Theory]
    [MemberData(nameof(EachMode))]
    public void Map_count_of_a_target_that_is_filled_first(Mode mode) =>
        FreeOneByOne(NewAttempt(mode, Way.ThirdParty, MiB, fix: true, more: MmapFlags.Populate), a => a.Target);

    public static TheoryData<Mode, Way, MmapFlags> PushesAndFills => new MatrixTheoryData<Mode, Way, MmapFlags>(
        Modes.All, [Way.Push, Way.ThirdParty], [MmapFlags.None, MmapFlags.Populate]);

    /// <summary>What can never be unmapped cannot be replaced, and that is said only when the region is complete: then it goes again, and nothing is the source's no longer.</summary>
    [Theory]
    [MemberData(nameof(PushesAndFills))]
    public void A_sealed_destination_is_refused(Mode mode, Way way, MmapFlags fill)
    {
        Attempt attempt = NewAttempt(mode, way, MiB, fix: true, more: fill);
        long sealing = attempt.Target.Syscall(Sys.mseal, (long)(attempt.Place + (3 * Page)), (long)Page, 0);
        Machine.RequireSystemCall(sealing, "mseal");
        attempt.Target.Must(sealing, "mseal");
        Assert.Equal(Errno.EPERM, attempt.Make(Errno.EPERM));
    }

    [Theory]
    [MemberData(nameof(EachMode))]
    public void Map_count_of_the_source(Mode mode) => FreeOneByOne(NewAttempt(mode, Way.ThirdParty, Pages * Page), a => a.Source);

    [Theory]
    [MemberData(nameof(EachModeFixedOrNot))]
    public void Map_count_of_a_filtered_source(Mode mode, bool fix)
    {
        // its content is copied before the call returns, and what is moved is unmapped there behind that
        Attempt attempt = NewAttempt(mode, Way.ThirdParty, Pages * Page, fix);
        Seccomp.Watch(attempt.Source);
        FreeOneByOne(attempt, a => a.Source);
    }

    [Theory]
    [MemberData(nameof(EachMode))]
    public void Map_count_of_a_source_that_withholds_the_range_from_its_children(Mode mode)
    {
        Attempt attempt = NewAttempt(mode, Way.ThirdParty, Pages * Page);
        attempt.Source.Advise(attempt.At - Page, (Pages + 2) * Page, Madv.DontFork);
        FreeOneByOne(attempt, a => a.Source);
    }

    [Theory]
    [MemberData(nameof(Headrooms))]
    public void Strict_overcommit(Mode mode, bool fix, ulong headroom)
    {
        // a copy is promised twice: to its holder, which is a fork, and to the target, before it gives up what is replaced
        const ulong Reserved = 4 * GiB;
        ulong needed = mode == Mode.Copy ? 2 * Reserved : Reserved;
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.Map(Reserved), place = fix ? target.Map(Reserved) : 0;
        source.Fill(at + Reserved / 2, MiB, 1);
        if (fix) target.Fill(place + Reserved / 2, MiB, 2);
        Borrow(new Overcommit(headroom * GiB));
        ProcessRecord sourceBefore = ProcessRecord.TakeAtRest(source.Pid), targetBefore = ProcessRecord.TakeAtRest(target.Pid);
        MmapFlags flags = mode.Flag() | (fix ? MmapFlags.Fixed : MmapFlags.None);
        if (headroom * GiB < needed)
        {
            Refused(Errno.ENOMEM, source, target, at, Reserved, place, flags);
            sourceBefore.AssertUnchanged();
            targetBefore.AssertUnchanged();
            source.AssertContent(at + Reserved / 2, MiB, 1);
            if (fix) target.AssertContent(place + Reserved / 2, MiB, 2);
            return;
        }
        MmapResult result = Call(source, target, at, Reserved, place, flags);
        AssertCompletes(result);
        target.AssertContent(result.Address + Reserved / 2, MiB, 1);
    }

    private static void Widen(Attempt attempt, Func<Attempt, Puppet> limited, Rlimit limit)
    {
        Puppet puppet = limited(attempt);
        ulong used = Used(puppet, limit);
        bool done = false;
        for (ulong room = 0; !done; room += room is < 6 or (>= Pages - 2 and < Pages + 6) ? 1UL : 4)
        {
            Assert.True(room < Plenty, $"ENOMEM with room for {room} pages");
            puppet.Limit(limit, used + room * Page);
            done = attempt.Make(Errno.ENOMEM) == Errno.None;
        }
    }

    private static ulong Used(Puppet puppet, Rlimit limit) => ProcessStatus.Figure(puppet.Pid, limit == Rlimit.Data ? "VmData" : "VmSize");

    private static void FreeOneByOne(Attempt attempt, Func<Attempt, Puppet> limited)
    {
        Puppet puppet = limited(attempt);
        ulong lowest = puppet.Fragment(1 << 20);
        Assert.Equal(Errno.ENOMEM, MakeAndLookForCuts(attempt));
        ulong freed = 0;
        do puppet.Unmap(lowest + freed * Page, Page);
        while (++freed < PlentyOfMappings && MakeAndLookForCuts(attempt) != Errno.None);
        Assert.True(freed < PlentyOfMappings, $"ENOMEM with room for {freed} mappings");
    }

    /// <summary>Where every mapping counts, a refused call may not leave one cut in two either.</summary>
    private static Errno MakeAndLookForCuts(Attempt attempt)
    {
        (PageRange[] source, PageRange[] target) = (Mappings(attempt.Source), Mappings(attempt.Target));
        Errno errno = attempt.Make(Errno.ENOMEM);
        if (errno != Errno.None)
        {
            Assert.Equal(source, Mappings(attempt.Source));
            Assert.Equal(target, Mappings(attempt.Target));
        }
        return errno;
    }

    private static PageRange[] Mappings(Puppet puppet) => [.. Smaps.ReadMaps(puppet.Pid).Select(vma => vma.Range)];
}
