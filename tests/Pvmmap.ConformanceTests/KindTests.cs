using System.Text;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>Private anonymous stays private anonymous, with the source's protection and advice.</summary>
public class KindTests(Theatre theatre) : Scene(theatre)
{
    public static TheoryData<Prot> Protections =>
        [Prot.None, Prot.Read, Prot.ReadWrite, Prot.Read | Prot.Exec, Prot.ReadWrite | Prot.Exec];

    [Theory]
    [MemberData(nameof(Protections))]
    public void The_copy_has_the_sources_protection(Prot protection)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(2 * MiB, 1);
        source.Protect(at, 2 * MiB, protection);
        MmapResult result = Call(source, target, at, 2 * MiB);
        Vma vma = Assert.Single(Smaps.Within(target.Pid, result.Address, 2 * MiB));
        Assert.Equal(Smaps.Letters(protection), vma.Permissions);
        AssertCompletes(result);
        // data below PROT_NONE is data all the same
        target.Protect(result.Address, 2 * MiB, Prot.ReadWrite);
        target.AssertContent(result.Address, 2 * MiB, 1);
    }

    [Theory]
    [InlineData(Madv.HugePage, "hg")]
    [InlineData(Madv.NoHugePage, "nh")]
    [InlineData(Madv.DontDump, "dd")]
    [InlineData(Madv.Mergeable, "mg")]
    public void Advice_is_carried(Madv advice, string flag)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(2 * MiB, 1);
        long advised = source.Advise(at, 2 * MiB, advice);
        Machine.Require(advised == 0, $"this kernel does not take madvise {advice}");
        AssertOrdinary(source, target, at, flag, carried: true);
    }

    [Theory]
    [InlineData(Madv.DontFork, "dc")]
    [InlineData(Madv.WipeOnFork, "wf")]
    public void What_concerns_only_the_sources_own_children_is_not_carried_but_the_content_is(Madv advice, string flag)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(2 * MiB, 1);
        source.Must(source.Advise(at, 2 * MiB, advice), "madvise");
        AssertOrdinary(source, target, at, flag, carried: false);
        Assert.True(Assert.Single(Smaps.Within(source.Pid, at, 2 * MiB)).Has(flag), "the source has lost its flag");
    }

    [Theory]
    [InlineData(Madv.DontFork)]
    [InlineData(Madv.WipeOnFork)]
    public void Nor_is_it_hidden_by_a_neighbour_without_that_advice(Madv advice)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(2 * MiB, 1);
        source.Must(source.Advise(at + MiB, MiB, advice), "madvise");
        MmapResult result = Call(source, target, at, 2 * MiB);
        target.AssertContent(result.Address, 2 * MiB, 1);
        AssertCompletes(result);
    }

    [Theory]
    [InlineData(MmapFlags.None)]
    [InlineData(MmapFlags.Populate)]
    public void Guard_pages_do_not_keep_the_fill_from_ending(MmapFlags fill)
    {
        const int guardInstall = 102;
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(MiB, 1);
        // EINVAL before Linux 6.13: ordinary pages then
        source.Advise(at + 64 * Page, 2 * Page, (Madv)guardInstall);
        MmapResult result = Call(source, target, at, MiB, flags: fill);
        target.AssertContent(result.Address, 64 * Page, 1);
        target.AssertContent(result.Address + 66 * Page, MiB - 66 * Page, 1, 66);
        AssertCompletes(result);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_guard_page_in_what_is_copied_before_the_call_returns_stays_one(bool ofFile)
    {
        // pages of a file are always copied then, others where the source is under seccomp
        Puppet source = NewPuppet(), target = NewPuppet();
        int file = -1;
        if (ofFile)
        {
            ulong text = source.Map(Page);
            source.Write(text, System.Text.Encoding.UTF8.GetBytes("guarded\0"));
            file = (int)source.Must(source.Syscall(Sys.memfd_create, (long)text, 0), "memfd_create");
            source.Must(source.Syscall(77, file, (long)MiB), "ftruncate");
        }
        ulong at = source.Map(MiB, flags: MapFlags.Private, fd: file);
        source.Fill(at, MiB, 1);
        Machine.Require(source.Advise(at + 64 * Page, 2 * Page, Madv.GuardInstall) == 0, "guard pages, of files too (Linux 6.15)");
        if (!ofFile) Seccomp.Confine(source);
        MmapResult result = Call(source, target, at, MiB);
        target.AssertContent(result.Address, 64 * Page, 1);
        target.AssertContent(result.Address + 66 * Page, MiB - 66 * Page, 1, 66);
        using FileStream memory = File.OpenRead($"/proc/{target.Pid}/mem");
        foreach (ulong guard in (ulong[])[64, 65])
        {
            memory.Position = (long)(result.Address + guard * Page);
            Assert.Throws<IOException>(() => memory.ReadByte());
        }
        AssertCompletes(result);
    }

    [Fact]
    public void Locked_memory_is_copied_unlocked()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(2 * MiB, 1);
        // one page in the middle too: Mach's test of a wired page within a range
        source.Must(source.Syscall(Sys.mlock, (long)(at + 64 * Page), (long)Page), "mlock");
        MmapResult result = Call(source, target, at, 2 * MiB);
        Assert.All(Smaps.Within(target.Pid, result.Address, 2 * MiB), vma => Assert.False(vma.Has("lo")));
        Assert.Contains(Smaps.Within(source.Pid, at, 2 * MiB), vma => vma.Has("lo"));
        target.AssertContent(result.Address, 2 * MiB, 1);
        AssertCompletes(result);
    }

    [Theory]
    [InlineData(MapFlags.NoReserve, "nr")]
    [InlineData(MapFlags.GrowsDown, "gd")]
    public void The_kind_of_mapping_is_carried(MapFlags kind, string flag)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.Map(2 * MiB, flags: kind);
        source.Fill(at, 2 * MiB, 1);
        AssertOrdinary(source, target, at, flag, carried: true);
    }

    [Fact]
    public void The_anonymous_name_is_carried()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(2 * MiB, 1), text = source.Scratch;
        source.Write(text, Encoding.ASCII.GetBytes("page server\0"));
        const long PR_SET_VMA = 0x53564d41, PR_SET_VMA_ANON_NAME = 0;
        long named = source.Syscall(Sys.prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, (long)at, (long)(2 * MiB), (long)text);
        Machine.Require(named == 0, "this kernel has no names for anonymous memory (CONFIG_ANON_VMA_NAME)");
        MmapResult result = Call(source, target, at, 2 * MiB);
        Assert.Equal("[anon:page server]", Assert.Single(Smaps.Within(target.Pid, result.Address, 2 * MiB)).Name);
    }

    [Fact]
    public void A_stack_stays_a_stack()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        Vma stack = Smaps.Read(source.Pid).Single(vma => vma.Name == "[stack]");
        byte[] top = source.Read(stack.Range.End - 256, 256);
        MmapResult result = Call(source, target, stack.Range.Start, stack.Range.Length);
        Vma copy = Assert.Single(Smaps.Within(target.Pid, result.Address, result.Length));
        Assert.Equal("rw-p", copy.Permissions);
        Assert.True(copy.Has("gd"), $"VmFlags {copy.Flags}");
        Assert.Equal(top, target.Read(result.Address + result.Length - 256, 256));
        AssertCompletes(result);
    }

    [Fact]
    public void The_heap_can_be_copied()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong start = (ulong)source.Syscall(Sys.brk, 0), end = (ulong)source.Syscall(Sys.brk, (long)(start + MiB));
        start = (start + Page - 1) & ~(Page - 1);
        source.Fill(start, MiB / 2, 1);
        Assert.Contains(Smaps.Within(source.Pid, start, MiB / 2), vma => vma.Name == "[heap]" && vma.Range.End >= end - Page);
        MmapResult result = Call(source, target, start, MiB / 2);
        target.AssertContent(result.Address, MiB / 2, 1);
        AssertCompletes(result);
    }

    [Fact]
    public void Once_complete_it_is_memory_like_any_other()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(8 * MiB, 1);
        MmapResult result = Call(source, target, at, 8 * MiB);
        AssertCompletes(result);
        ulong region = result.Address;
        Vma vma = Smaps.Within(target.Pid, region, 8 * MiB).Single();
        Assert.False(vma.Has("um"), "still registered with a userfaultfd"); // VM_UFFD_MISSING
        Assert.Equal(8 * MiB, vma.Figures["Anonymous"]);
        Assert.Equal(0L, target.Syscall(Sys.mlock, (long)region, (long)MiB));
        Assert.Equal(0L, target.Syscall(Sys.munlock, (long)region, (long)MiB));
        target.Protect(region, MiB, Prot.None);
        target.Protect(region, MiB, Prot.ReadWrite);
        Puppet child = ForkOf(target);
        child.AssertContent(region, 8 * MiB, 1);
        target.Must(target.Advise(region + MiB, MiB, Madv.DontNeed), "madvise");
        Assert.Equal(new byte[64], target.Read(region + MiB, 64));
        ulong elsewhere = target.FreeRange(2 * MiB);
        target.Move(region + 2 * MiB, 2 * MiB, elsewhere);
        target.AssertContent(elsewhere, 2 * MiB, 1, 2 * MiB / Page);
        target.AssertContent(region + 4 * MiB, 4 * MiB, 1, 4 * MiB / Page);
        target.Unmap(region + 4 * MiB, 4 * MiB);
        child.AssertContent(region, 8 * MiB, 1);
    }

    private void AssertOrdinary(Puppet source, Puppet target, ulong at, string flag, bool carried)
    {
        MmapResult result = Call(source, target, at, 2 * MiB);
        AssertCompletes(result);
        Vma copy = Assert.Single(Smaps.Within(target.Pid, result.Address, 2 * MiB)), original = Smaps.Within(source.Pid, at, 2 * MiB)[0];
        Assert.Equal("rw-p", copy.Permissions);
        Assert.True(copy.IsPrivateAnonymous, copy.ToString());
        Assert.True(copy.Has(flag) == carried, $"VmFlags of the source {original.Flags}, of the target {copy.Flags}");
        target.AssertContent(result.Address, 2 * MiB, 1);
    }
}
