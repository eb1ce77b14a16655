using Pvmmap.ConformanceTests.Cli;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>Every kind of memory in one process: content, kinds and flags of the duplicate, against the table in docs/limits.md.</summary>
public sealed class EveryKindTests(Theatre theatre) : Scene(theatre)
{
    private const int Nobody = 65534;

    private static readonly Dictionary<string, string> s_table = ReadTable();

    public static TheoryData<Mode, Way, MmapFlags> ModesWaysAndFills => new MatrixTheoryData<Mode, Way, MmapFlags>(
        Modes.All, Enum.GetValues<Way>(), [MmapFlags.None, MmapFlags.Lazy, MmapFlags.Populate, MmapFlags.Fixed]);

    [Theory]
    [MemberData(nameof(ModesWaysAndFills))]
    public void All_kinds_in_one_call(Mode mode, Way way, MmapFlags fill)
    {
        Borrow(new HugePages(16));
        (AddressSpace source, AddressSpace target) = Pair(way);
        Assortment all = new(source, NewFolder(), sealing: false);
        List<Vma> originals = Smaps.Within(source.Pid, all.Start, all.Length);
        var content = new Content(source.Pid, all.Start, all.Length);
        ulong place = fill == MmapFlags.Fixed ? PlaceFor(target, all) : 0;
        if (source is OwnProcess && mode == Mode.Copy) UnmapAtEnd(all.Start, all.Length);
        MmapResult result = Call(source, target, all.Start, all.Length, place, fill | mode.Flag());
        if (place != 0) Assert.Equal(place, result.Address);
        // mem shows no page that is still missing
        Assert.Equal(content[0], target.Read(result.Address, (int)Page));
        result.Duplication.Finish();
        AssertCompletes(result);
        content.AssertEqual(target.Pid, result.Address);
        AssertAlike(originals, target.Pid, all.Start, result.Address, all.Length);
        if (mode == Mode.Move) Assert.DoesNotContain(Smaps.Within(source.Pid, all.Start, all.Length), vma => originals.Exists(o => o.Inode != "0" && o.Inode == vma.Inode));
        else content.AssertEqual(source.Pid, all.Start);
    }

    [Theory]
    [MemberData(nameof(OlderKernelTests.ModesAndLacks), MemberType = typeof(OlderKernelTests))]
    public void All_kinds_on_older_kernels(Mode mode, string without)
    {
        Borrow(new HugePages(16));
        Puppet source = NewPuppet(), target = NewPuppet();
        Assortment all = new(source, NewFolder(), sealing: false);
        List<Vma> originals = Smaps.Within(source.Pid, all.Start, all.Length);
        var content = new Content(source.Pid, all.Start, all.Length);
        ToolResult result = OlderKernelTests.RunTool(mode, source, target, all.Start, all.Length, without);
        if (without.Split(',').Contains("map_files"))
        {
            // nothing else leads to shared memory without a name
            Assert.Contains("EPERM", result.Errors, StringComparison.Ordinal);
            content.AssertEqual(source.Pid, all.Start);
            return;
        }
        ulong region = OlderKernelTests.AddressIn(result);
        WaitForFills(target);
        content.AssertEqual(target.Pid, region);
        AssertAlike(originals, target.Pid, all.Start, region, all.Length);
        if (mode == Mode.Copy) content.AssertEqual(source.Pid, all.Start);
    }

    [Fact]
    public void A_whole_address_space_range_by_range()
    {
        Borrow(new HugePages(16));
        Puppet source = NewPuppet(), target = NewPuppet();
        KeepOnOneProcessor(source);
        Assortment all = new(source, NewFolder(), sealing: true);
        int taken = 0, refused = 0;
        foreach (Vma vma in Smaps.Read(source.Pid))
        {
            ulong start = vma.Range.Start, length = vma.Range.Length;
            if (vma.Name is "[vdso]" or "[vvar]" or "[vvar_vclock]" or "[vsyscall]")
            {
                PvmmapException exception = Assert.Throws<PvmmapException>(() => Call(source, target, start, length));
                // beyond the end of the address space it is an argument
                Assert.Equal(vma.Name == "[vsyscall]" ? Errno.EINVAL : Errno.EFAULT, exception.Errno);
                refused++;
                continue;
            }
            var content = new Content(source.Pid, start, length);
            MmapResult result = Call(source, target, start, length);
            AssertCompletes(result);
            content.AssertEqual(target.Pid, result.Address);
            AssertAlike([vma], target.Pid, start, result.Address, length);
            taken++;
        }
        Assert.InRange(taken, 40, 200);
        Assert.InRange(refused, 2, 4);
        Assert.Contains(Smaps.Read(source.Pid), vma => vma.Has("sl") && vma.Range.Start >= all.Start);
    }

    [Fact]
    public void What_is_shared_stays_shared_and_what_is_private_does_not_become_so()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong shared = source.Map(MiB, flags: MapFlags.Shared), secret = source.MapFilled(MiB, 1);
        MmapResult first = Call(source, target, shared, MiB), second = Call(source, target, secret, MiB);
        source.Fill(shared, MiB, 5);
        target.AssertContent(first.Address, MiB, 5);
        target.Fill(first.Address, MiB, 6);
        source.AssertContent(shared, MiB, 6);
        source.Fill(secret, MiB, 7);
        target.AssertContent(second.Address, MiB, 1);
        Assert.Equal(DuplicationState.Complete, first.Duplication.State);
    }

    [Fact]
    public void A_copied_stack_still_grows_beside_other_kinds()
    {
        Borrow(new HugePages(16));
        Puppet source = NewPuppet(), target = NewPuppet();
        Assortment all = new(source, NewFolder());
        MmapResult result = Call(source, target, all.Start, all.Length);
        target.Touch(result.Address - 8 * Page, Page);
        Assert.Equal(new byte[16], target.Read(result.Address - 8 * Page, 16));
        AssertCompletes(result);
        // one mapping again as soon as the holder's userfaultfd is closed
        Eventually.Holds(() => Smaps.Within(target.Pid, result.Address, Page)[0].Range.Start <= result.Address - 8 * Page, "the stack has grown");
    }

    [Fact]
    public void A_sealed_range_can_be_copied_and_not_moved()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(MiB, 1);
        long sealing = source.Syscall(Sys.mseal, (long)at, (long)MiB, 0);
        Machine.RequireSystemCall(sealing, "mseal");
        source.Must(sealing, "mseal");
        PvmmapException exception = Refused(Errno.EFAULT, source, target, at, MiB, flags: MmapFlags.Move);
        Assert.Contains("mseal", exception.Message, StringComparison.Ordinal);
        source.AssertContent(at, MiB, 1);
        MmapResult result = Call(source, target, at, MiB);
        target.AssertContent(result.Address, MiB, 1);
        AssertCompletes(result);
    }

    [Fact]
    public void A_range_that_cuts_a_huge_page_is_refused()
    {
        Borrow(new HugePages(8));
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.Map(2 * HugePages.Size, flags: MapFlags.HugeTlb);
        source.Fill(at, 2 * HugePages.Size, 1);
        Assert.Contains("huge page", Refused(Errno.EINVAL, source, target, at + Page, HugePages.Size).Message, StringComparison.Ordinal);
        ulong crooked = target.FreeRange(6 * HugePages.Size) + Page;
        Refused(Errno.EINVAL, source, target, at, 2 * HugePages.Size, crooked, MmapFlags.Fixed);
    }

    [Fact]
    public void Without_huge_pages_in_the_pool_the_target_is_as_before()
    {
        Borrow(new HugePages(2));
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.Map(2 * HugePages.Size, flags: MapFlags.HugeTlb);
        source.Fill(at, 2 * HugePages.Size, 1);
        List<Vma> before = Smaps.ReadMaps(target.Pid);
        Assert.Contains("pool", Refused(Errno.ENOMEM, source, target, at, 2 * HugePages.Size).Message, StringComparison.Ordinal);
        Assert.Equal(before.Select(vma => vma.Range), Smaps.ReadMaps(target.Pid).Select(vma => vma.Range));
        source.AssertContent(at, 2 * HugePages.Size, 1);
    }

    [Fact]
    public void Without_privileges_what_is_open_or_has_a_path_can_be_had()
    {
        Puppet caller = NewPuppetOf(Nobody, load: true), other = NewPuppetOf(Nobody);
        string path = Path.Combine(Theatre.NewFolder($"files-{Guid.NewGuid():N}"), "data");
        File.WriteAllBytes(path, [.. Enumerable.Range(0, (int)MiB).Select(i => (byte)(i / 5))]);
        File.SetUnixFileMode(path, (UnixFileMode)Convert.ToInt32("666", 8));
        ulong text = other.Map(Page);
        other.Write(text, System.Text.Encoding.UTF8.GetBytes(path + "\0"));
        int file = (int)other.Must(other.Syscall(Sys.openat, -100, (long)text, 2), "open");
        int memfd = (int)other.Must(other.Syscall(Sys.memfd_create, (long)text, 0), "memfd_create");
        other.Must(other.Syscall(77, memfd, (long)MiB), "ftruncate");
        ulong named = other.Map(MiB, flags: MapFlags.Private, fd: file), open = other.Map(MiB, flags: MapFlags.Shared, fd: memfd);
        ulong nameless = other.Map(MiB, flags: MapFlags.Shared);
        other.Fill(named, MiB / 2, 4);
        other.Fill(open, MiB, 5);
        other.Must(other.Syscall(Sys.close, file), "close");
        ProcessRecord before = ProcessRecord.TakeAtRest(other.Pid);
        (long at, Errno errno) = caller.Call(other.Pid, named, MiB);
        Assert.Equal(Errno.None, errno);
        caller.AssertContent((ulong)at, MiB / 2, 4);
        Assert.Equal(other.Read(named + MiB / 2, 4096), caller.Read((ulong)at + MiB / 2, 4096));
        (at, errno) = caller.Call(other.Pid, open, MiB);
        Assert.Equal(Errno.None, errno);
        other.Fill(open, MiB, 6);
        caller.AssertContent((ulong)at, MiB, 6);
        // nothing leads to it but /proc/PID/map_files
        Assert.Equal((-1L, Errno.EPERM), caller.Call(other.Pid, nameless, MiB));
        before.AssertUnchanged();
    }

    [Fact]
    public void Without_privileges_the_caller_keeps_nothing_of_what_it_has_looked_at()
    {
        // an unprivileged caller maps what it has opened, to see whether it is the source's
        Borrow(new HugePages(2));
        Puppet caller = NewPuppetOf(Nobody, load: true), other = NewPuppetOf(Nobody);
        ulong text = other.Map(Page);
        // Of one name: for the second the first is looked at too, and in the end the other way round.
        const string name = "looked at";
        other.Write(text, System.Text.Encoding.UTF8.GetBytes(name + "\0"));
        ulong mapped = 0;
        foreach ((long flags, ulong length) in ((long, ulong)[])[(0, MiB), (4, HugePages.Size), (0, MiB)]) // MFD_HUGETLB
        {
            int memfd = (int)other.Must(other.Syscall(Sys.memfd_create, (long)text, flags), "memfd_create");
            other.Must(other.Syscall(77, memfd, (long)length), "ftruncate");
            ulong at = other.Map(length, flags: MapFlags.Shared, fd: memfd);
            for (int call = 0; call < 3; call++)
            {
                Assert.Equal(Errno.None, caller.Call(other.Pid, at, length).Errno);
                mapped += length;
                Vma[] there = [.. Smaps.ReadMaps(caller.Pid).Where(vma => vma.Name.Contains(name, StringComparison.Ordinal))];
                Assert.Equal(mapped, there.Aggregate(0UL, (sum, vma) => sum + vma.Range.Length));
            }
        }
    }

    // The kernel writes the number of the processor into a thread's memory (rseq(2)) whenever it moves to another.
    private static void KeepOnOneProcessor(Puppet puppet)
    {
        using var process = System.Diagnostics.Process.GetProcessById(puppet.Pid);
        nint allowed = process.ProcessorAffinity;
        process.ProcessorAffinity = allowed & -allowed;
    }

    private string NewFolder() => Theatre.NewFolder($"files-{Guid.NewGuid():N}");

    // Something that has to go, at the same distance from huge pages as the source.
    private static ulong PlaceFor(AddressSpace target, Assortment all)
    {
        ulong room = target.Map(all.Length + 4 * HugePages.Size, Prot.None, MapFlags.NoReserve);
        ulong place = (room + 2 * HugePages.Size) & ~(HugePages.Size - 1);
        target.Protect(place, MiB, Prot.ReadWrite);
        target.Fill(place, MiB, 99);
        return place;
    }

    private static void AssertAlike(IReadOnlyList<Vma> originals, int target, ulong from, ulong to, ulong length)
    {
        List<Vma> copies = Smaps.Within(target, to, length);
        foreach (Vma original in originals)
        {
            PageRange part = original.Range.Intersect(new PageRange(from, from + length));
            var expected = new PageRange(part.Start - from + to, part.End - from + to);
            Vma copy = copies.Single(vma => vma.Range.Start <= expected.Start && expected.Start < vma.Range.End);
            string both = $"{original} {original.Flags}\n{copy} {copy.Flags}";
            Assert.True(copy.Range.End >= expected.End, both);
            Assert.True(copy.Permissions == original.Permissions, both);
            Assert.True(original.Inode == copy.Inode || original.Name.StartsWith("/anon_hugepage", StringComparison.Ordinal), both);
            if (original.Inode != "0")
            {
                // the same part of the same file
                ulong offset = original.Offset + (part.Start - original.Range.Start);
                Assert.True(copy.Name == original.Name && copy.Offset + (expected.Start - copy.Range.Start) == offset, both);
            }
            foreach (string letters in original.Flags.Split(' ').Union(copy.Flags.Split(' ')))
            {
                Assert.True(s_table.TryGetValue(letters, out string? fate), $"docs/limits.md has no row for {letters}");
                switch (fate)
                {
                    case "carried":
                        Assert.True(original.Has(letters) == copy.Has(letters), $"{letters} is carried:\n{both}");
                        break;
                    case "dropped":
                        Assert.False(copy.Has(letters), $"{letters} is dropped:\n{both}");
                        break;
                    case "refused":
                        Assert.Fail($"{letters} is refused:\n{both}");
                        break;
                    case "by the kernel":
                        break;
                    default:
                        Assert.Fail($"docs/limits.md says {fate} of {letters}");
                        break;
                }
            }
        }
    }

    private static Dictionary<string, string> ReadTable() => File.ReadLines(Path.Combine(Theatre.RepositoryRoot, "docs/limits.md"))
        .Select(line => line.Split('|', StringSplitOptions.TrimEntries))
        .Where(cells => cells.Length > 4 && cells[1] is ['`', _, _, '`'])
        .ToDictionary(cells => cells[1].Trim('`'), cells => cells[3]);

    /// <summary>The bytes of a range as a process has them; pages that cannot be read are null.</summary>
    private sealed class Content
    {
        private readonly List<byte[]?> _pages = [];

        public Content(int pid, ulong start, ulong length)
        {
            using FileStream memory = Open(pid);
            for (ulong at = start; at < start + length; at += Page) _pages.Add(ReadPage(memory, at));
        }

        public byte[]? this[int page] => _pages[page];

        public void AssertEqual(int pid, ulong start)
        {
            using FileStream memory = Open(pid);
            for (int i = 0; i < _pages.Count; i++)
            {
                byte[]? page = ReadPage(memory, start + ((ulong)i * Page));
                bool same = _pages[i] is null ? page is null : page is not null && page.AsSpan().SequenceEqual(_pages[i]);
                if (!same) Assert.Fail($"page {i} of {_pages.Count} differs in process {pid} from byte {(page is null || _pages[i] is null ? -1 : page.AsSpan().CommonPrefixLength(_pages[i]))} on: {Smaps.Within(pid, start + ((ulong)i * Page), Page).FirstOrDefault()}");
            }
        }

        private static FileStream Open(int pid) => new($"/proc/{pid}/mem", FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);

        private static byte[]? ReadPage(FileStream memory, ulong at)
        {
            byte[] page = new byte[Page];
            try
            {
                memory.Position = (long)at;
                memory.ReadExactly(page);
                return page;
            }
            catch (IOException)
            {
                return null;
            }
        }
    }
}
