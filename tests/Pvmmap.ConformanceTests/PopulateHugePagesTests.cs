using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>With POPULATE, what the source has in transparent huge pages is in huge pages in the target when the call returns.</summary>
public sealed class PopulateHugePagesTests(Theatre theatre) : Scene(theatre)
{
    private const int Nobody = 65534;
    private const ulong Length = 32 * MiB, Huge = 2 * MiB, Much = 512 * MiB;

    public static TheoryData<Way, MmapFlags> WaysAndPlaces => new MatrixTheoryData<Way, MmapFlags>(
        Enum.GetValues<Way>(), [MmapFlags.None, MmapFlags.Fixed, MmapFlags.FixedNoReplace]);

    [Theory]
    [MemberData(nameof(WaysAndPlaces))]
    public void They_are_huge_at_once(Way way, MmapFlags placed)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong at = MapHuge(source, Length), place = placed == 0 ? 0 : MapHuge(target, Length);
        source.Fill(at, Length, 1);
        Assert.Equal(Length, InHugePages(source, at));
        if (placed == MmapFlags.FixedNoReplace) target.Unmap(place, Length);
        MmapResult result = Call(source, target, at, Length, place, MmapFlags.Populate | placed);
        if (place != 0) Assert.Equal(place, result.Address);
        Assert.Equal(DuplicationState.Complete, result.Duplication.State);
        Assert.Equal((source.Pid, target.Pid), (result.Duplication.SourcePid, result.Duplication.TargetPid));
        Assert.Equal((0UL, Length), (result.Duplication.BytesToGo, result.Duplication.BytesTotal));
        Assert.Equal(Length, InHugePages(target, result.Address));
        Vma vma = Assert.Single(Smaps.Within(target.Pid, result.Address, Length));
        Assert.Equal("rw-p", vma.Permissions);
        target.AssertContent(result.Address, Length, 1);
        target.Fill(result.Address, Length, 2);
        source.AssertContent(at, Length, 1);
        source.Fill(at, Length, 3);
        target.AssertContent(result.Address, Length, 2);
    }

    /// <summary>Huge pages, small ones, holes, swapped ones and several VMAs: each arrives, and what was never touched is no memory in the target either.</summary>
    [Theory]
    [InlineData(MmapFlags.None)]
    [InlineData(MmapFlags.Fixed)]
    public void Beside_everything_else(MmapFlags placed)
    {
        Borrow(new ZramSwap(64 * MiB));
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong whole = MapHuge(source, Length);
        source.Fill(whole, 4 * Huge, 1);                                                     // huge
        source.Must(source.Advise(whole + 4 * Huge, Huge, Madv.NoHugePage), "madvise");
        source.Fill(whole + 4 * Huge, Huge, 1, 4 * Huge / Page);                             // small: and no huge page of the whole range's begins here
        source.Must(source.Advise(whole + 4 * Huge, Huge, Madv.HugePage), "madvise");
        source.Fill(whole + 6 * Huge, 3 * Huge, 1, 6 * Huge / Page);                         // a hole before it
        source.Must(source.Advise(whole + 7 * Huge, Huge, Madv.PageOut), "madvise");         // swapped out
        source.Must(source.Advise(whole + 8 * Huge, 16 * Page, Madv.DontNeed), "madvise");   // a huge page no longer
        source.Fill(whole + 12 * Huge, 2 * Huge, 1, 12 * Huge / Page);
        source.Must(source.Advise(whole + 13 * Huge, 3 * Huge, Madv.DontDump), "madvise");   // another VMA
        // Neither end is that of a huge page.
        ulong cut = 3 * Page, at = whole + cut, length = Length - 2 * cut;
        ulong place = placed == 0 ? 0 : MapHuge(target, Length) + cut;
        ulong populated = Smaps.Resident(source.Pid, at, length) + Smaps.Swapped(source.Pid, at, length);
        MmapResult result = Call(source, target, at, length, place, MmapFlags.Populate | placed);
        Assert.Equal(DuplicationState.Complete, result.Duplication.State);
        ulong to = result.Address - cut;
        Assert.Equal(0UL, to % Huge);
        target.AssertContent(to + cut, 5 * Huge - cut, 1, cut / Page);
        target.AssertContent(to + 6 * Huge, 2 * Huge, 1, 6 * Huge / Page);
        target.AssertContent(to + 8 * Huge + 16 * Page, Huge - 16 * Page, 1, 8 * Huge / Page + 16);
        target.AssertContent(to + 12 * Huge, 2 * Huge, 1, 12 * Huge / Page);
        Assert.Equal(6 * Huge, Smaps.InHugePages(target.Pid, to + cut, length));
        Assert.InRange(Smaps.Resident(target.Pid, to + cut, length), populated - 2 * cut, populated);
        AssertAllZero(target, to + 5 * Huge, Huge);
        AssertAllZero(target, to + 8 * Huge, 16 * Page);
        Assert.Equal(2, Smaps.Within(target.Pid, to + cut, length).Count);
    }

    /// <summary>Where a page table has no place for a huge page, the pages come as small ones.</summary>
    [Fact]
    public void Not_at_another_distance_from_a_huge_pages_border()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = MapHuge(source, Length), place = target.Map(Length + Huge);
        source.Fill(at, Length, 1);
        place = (place & ~(Huge - 1)) + Huge + Page;
        MmapResult result = Call(source, target, at, Length - Huge, place, MmapFlags.Populate | MmapFlags.Fixed);
        Assert.Equal(DuplicationState.Complete, result.Duplication.State);
        target.AssertContent(place, Length - Huge, 1);
    }

    /// <summary>The holder is whom the source was, and gets nothing with which it could write to all of a target that the source may not write to: small pages then.</summary>
    [Fact]
    public void Not_out_of_a_source_without_rights_over_the_target()
    {
        Machine.RequireRoot();
        Puppet source = NewPuppetOf(Nobody), target = NewPuppet();
        ulong at = MapHuge(source, Length);
        source.Fill(at, Length, 1);
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Populate);
        Assert.Equal(0UL, InHugePages(target, result.Address));
        target.AssertContent(result.Address, Length, 1);
        // The other way round it may.
        ulong back = MapHuge(target, Length);
        target.Fill(back, Length, 2);
        MmapResult other = Call(target, source, back, Length, flags: MmapFlags.Populate);
        Assert.Equal(Length, InHugePages(source, other.Address));
        source.AssertContent(other.Address, Length, 2);
    }

    /// <summary>The caller, which is the target, goes on: it is not stopped to take the region away again.</summary>
    [Fact]
    public void The_holder_of_a_pull_is_killed()
    {
        Puppet source = NewPuppet(), target = NewPuppet().LoadLibrary();
        ulong at = MapHuge(source, Much), place = MapHuge(target, MiB), idle = Resident(target);
        source.Fill(at, Much, 1);
        target.Fill(place, MiB, 2);
        target.Post($"call {source.Pid} {at} {Much} {0} {(ulong)MmapFlags.Populate}");
        Eventually.Holds(() => Resident(target) > idle + Much / 8, "pages are being written");
        Libc.Kill(Named("pvmmap-holder"), Libc.SIGKILL);
        string[] answer = target.Answer();
        Assert.Contains(((int)Errno.EAGAIN).ToString(System.Globalization.CultureInfo.InvariantCulture), answer);
        target.AssertContent(place, MiB, 2);
        source.AssertContent(at, Much, 1);
        Assert.True(Resident(target) < idle + Much / 8, "the region is gone");
    }

    /// <summary>Its kernel would have made every page of the region present at once.</summary>
    [Fact]
    public void In_a_target_that_locks_all_its_memory()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = MapHuge(source, Length);
        source.Fill(at, 4 * Huge, 1);
        source.Must(source.Advise(at + 4 * Huge, 4 * Huge, Madv.NoHugePage), "madvise");
        source.Fill(at + 4 * Huge, 4 * Huge, 1, 4 * Huge / Page);
        source.Must(source.Advise(at + 4 * Huge, 4 * Huge, Madv.HugePage), "madvise");
        const long future = 2;
        target.Must(target.Syscall(Sys.mlockall, future), "mlockall");
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Populate);
        target.AssertContent(result.Address, 8 * Huge, 1);
    }

    /// <summary>What is not there yet becomes the zero page for whoever looks, and the call's pages must come all the same; a child that the target forks knows nothing of it.</summary>
    [Fact]
    public async Task Somebody_looks_meanwhile()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = MapHuge(source, Much);
        source.Fill(at, Much, 1);
        // The last of it is in small pages, which are delivered when all others have been written.
        ulong small = at + Much - 8 * Huge;
        source.Must(source.Advise(small, 8 * Huge, Madv.NoHugePage), "madvise");
        source.Must(source.Advise(small, 8 * Huge, Madv.DontNeed), "madvise");
        source.Fill(small, 8 * Huge, 1, (small - at) / Page);
        source.Must(source.Advise(small, 8 * Huge, Madv.HugePage), "madvise");
        ulong idle = Resident(target);
        Task<MmapResult> call = Task.Run(() => Call(source, target, at, Much, flags: MmapFlags.Populate));
        Eventually.Holds(() => call.IsCompleted || Resident(target) > idle + Much / 8, "pages are being written");
        ulong region = Smaps.ReadMaps(target.Pid).Single(vma => vma.Range.Length == Much).Range.Start;
        using (FileStream memory = new($"/proc/{target.Pid}/mem", FileMode.Open, FileAccess.Read))
        {
            memory.Seek((long)(region + Much - Page), SeekOrigin.Begin);
            Assert.Equal(0, memory.ReadByte());
        }
        Puppet child = ForkOf(target);
        Assert.False(call.IsCompleted);
        MmapResult result = await call;
        Assert.Equal(region, result.Address);
        target.AssertContent(region, Much, 1);
        Assert.Empty(Smaps.Within(child.Pid, region, Much));
    }

    public enum Victim { Holder, Guardian, Source, Target, Program }

    [Theory]
    [InlineData(Victim.Holder, Errno.EAGAIN)]
    [InlineData(Victim.Guardian, Errno.None)]
    [InlineData(Victim.Source, Errno.None)]
    [InlineData(Victim.Target, Errno.ESRCH)]
    [InlineData(Victim.Program, Errno.ESRCH)]
    public async Task Somebody_ends_meanwhile(Victim victim, Errno expected)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = MapHuge(source, Much), place = MapHuge(target, Much), mapped = Mapped(target), idle = Resident(target);
        source.Fill(at, Much, 1);
        target.Fill(place, MiB, 2);
        Task<(MmapResult? Result, Errno Errno)> call = Task.Run(() => Try(() => Call(source, target, at, Much, place, MmapFlags.Populate | MmapFlags.Fixed)));
        Eventually.Holds(() => call.IsCompleted || Resident(target) > idle + Much / 8, "pages are being written");
        Assert.False(call.IsCompleted);
        switch (victim)
        {
            case Victim.Holder: Libc.Kill(Named("pvmmap-holder"), Libc.SIGKILL); break;
            case Victim.Guardian: Libc.Kill(Named("pvmmap-guardian"), Libc.SIGKILL); break;
            case Victim.Source: source.Kill(); break;
            case Victim.Target: target.Kill(); break;
            default: target.Exec(); break;
        }
        (MmapResult? result, Errno errno) = await call;
        Assert.Equal(expected, errno);
        if (victim == Victim.Target) return;
        if (result is null)
        {
            Eventually.Holds(() => Mapped(target) <= mapped, "the region is gone", 6);
            if (victim != Victim.Program) target.AssertContent(place, MiB, 2);
        }
        else
        {
            target.AssertContent(place, Much, 1);
            Assert.Equal(mapped, Mapped(target));
        }
        if (victim != Victim.Source) source.AssertContent(at, Much, 1);
    }

    /// <summary>The region stays, at an address that the program does not know (docs/limits.md); nobody of ours does, and nobody writes into it any more.</summary>
    [Fact]
    public void The_caller_is_killed_meanwhile()
    {
        Puppet source = NewPuppet().LoadLibrary(), target = NewPuppet();
        ulong at = MapHuge(source, Much), place = MapHuge(target, MiB), idle = Resident(target);
        source.Fill(at, Much, 1);
        target.Fill(place, MiB, 2);
        source.Post($"call {-target.Pid} {at} {Much} {0} {(ulong)MmapFlags.Populate}");
        Eventually.Holds(() => Resident(target) > idle + Much / 8, "pages are being written");
        source.Kill();
        Leftovers.AssertNone(Theatre, [], 6);
        target.AssertContent(place, MiB, 2);
        Assert.True(Resident(target) < idle + Much, "it was over already");
    }

    private static (MmapResult? Result, Errno Errno) Try(Func<MmapResult> call)
    {
        try
        {
            return (call(), Errno.None);
        }
        catch (PvmmapException e)
        {
            return (null, e.Errno);
        }
    }

    private static int Named(string name) => ProcessStatus.All().Single(pid => ProcessStatus.Name(pid) == name && ProcessStatus.IsAlive(pid));

    private ulong MapHuge(AddressSpace space, ulong length)
    {
        ulong at = space.MapHugeAligned(length, Madv.HugePage);
        if (space is OwnProcess) UnmapAtEnd(at, length);
        return at;
    }

    private static ulong Mapped(Puppet process) => ProcessStatus.Figure(process.Pid, "VmSize");

    private static ulong Resident(Puppet process) => ProcessStatus.Figure(process.Pid, "RssAnon");

    private static ulong InHugePages(AddressSpace process, ulong address) => Smaps.InHugePages(process.Pid, address, Length);
}
