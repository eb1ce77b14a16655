using System.Globalization;
using Pvmmap.ConformanceTests.Stage;
using Pvmmap.Snapshots;

namespace Pvmmap.ConformanceTests;

/// <summary>A process captured at one instant and read at leisure.</summary>
public sealed class SnapshotTests(Theatre theatre) : Scene(theatre)
{
    [Fact]
    public void Every_kind_of_memory_is_as_it_was()
    {
        Borrow(new HugePages(16));
        Puppet source = NewPuppet();
        Assortment all = new(source, Theatre.NewFolder($"files-{Guid.NewGuid():N}"));
        byte[]?[] before = ReadPages(source.Pid, all.Start, all.Length);
        List<Vma> maps = Smaps.Within(source.Pid, all.Start, all.Length);
        using ProcessSnapshot snapshot = ProcessSnapshot.Capture(source.Pid);
        foreach (Vma vma in maps)
        {
            SnapshotRange range = Assert.Single(snapshot.Ranges, range => range.Range == vma.Range);
            Assert.Equal(vma.Permissions, range.Permissions);
            Assert.Equal(vma.Name, range.Name);
            Assert.Equal(vma.Flags.Split(' ').Order(), range.Flags.Split(' ').Order());
            Assert.NotEqual(SnapshotContent.Absent, range.Content);
        }
        Assert.Equal(maps.Select(vma => vma.Range), Smaps.Within(source.Pid, all.Start, all.Length).Select(vma => vma.Range));
        Assert.Equal(maps.Select(vma => vma.Flags), Smaps.Within(source.Pid, all.Start, all.Length).Select(vma => vma.Flags));
        // everything that can be written is overwritten: the shared memory too
        foreach (Vma vma in maps.Where(vma => vma.Permissions.StartsWith("rw", StringComparison.Ordinal)))
        {
            for (ulong at = vma.Range.Start; at < vma.Range.End; at += Page)
            {
                if (before[(at - all.Start) / Page] is not null) source.Write(at, "overwritten"u8);
            }
        }
        byte[] page = new byte[Page];
        for (int i = 0; i < before.Length; i++)
        {
            ulong at = all.Start + ((ulong)i * Page);
            if (before[i] is not { } expected)
            {
                Assert.True(snapshot.ReadSome(at, page) == 0, $"page {i} of {before.Length} can be read");
                Assert.Equal(Errno.EFAULT, Assert.Throws<PvmmapException>(() => snapshot.Read(at, new byte[8])).Errno);
                continue;
            }
            snapshot.Read(at, page);
            Assert.True(page.AsSpan().SequenceEqual(expected), $"page {i} of {before.Length} differs: {maps.Find(vma => vma.Range.Contains(new PageRange(at, at + Page)))}");
        }
    }

    [Fact]
    public void The_whole_process_can_be_read_and_is_as_found()
    {
        Puppet source = NewPuppet();
        ulong at = source.MapFilled(16 * MiB, 1);
        source.StartIdlers(5);
        ProcessRecord before = ProcessRecord.TakeAtRest(source.Pid);
        using (ProcessSnapshot snapshot = ProcessSnapshot.Capture(source.Pid))
        {
            Assert.Equal(source.Pid, snapshot.Identity.ProcessId);
            Assert.Equal("puppet", snapshot.Identity.Name);
            Assert.EndsWith("puppet", snapshot.Identity.Executable, StringComparison.Ordinal);
            Assert.Equal([Theatre.Program("puppet"), Theatre.Door], snapshot.Identity.CommandLine);
            Assert.Equal(File.ReadAllBytes($"/proc/{source.Pid}/auxv"), snapshot.AuxiliaryVector.ToArray());
            Assert.Equal(Directory.GetFileSystemEntries($"/proc/{source.Pid}/fd").Select(path => new FileInfo(path).LinkTarget).Order(), snapshot.Descriptors.Select(fd => fd.Target).Order());
            Assert.Equal(Smaps.ReadMaps(source.Pid).Select(vma => (vma.Range, vma.Permissions, vma.Name)), snapshot.Ranges.Select(range => (range.Range, range.Permissions, range.Name)));
            Assert.Equal(6, snapshot.Threads.Count);
            Assert.Equal(source.Pid, snapshot.Threads[0].ThreadId);
            snapshot.AssertThreadsWaited();
            foreach (SnapshotThread thread in snapshot.Threads)
            {
                Assert.Equal(512, thread.FloatingPointRegisters.Length);
                Assert.InRange(thread.ExtendedState.Length, 576, 24 * 1024);
                Assert.Equal('S', thread.State);
            }
            source.Fill(at, 16 * MiB, 2);
            snapshot.AssertContent(at, 16 * MiB, 1);
            byte[] everything = new byte[1 << 20];
            foreach (SnapshotRange range in snapshot.Ranges.Where(range => range.Content != SnapshotContent.Absent))
            {
                using Stream stream = snapshot.OpenRead(range.Range.Start, range.Range.Length);
                ulong read = 0;
                // a mapping may be longer than its file
                for (int got; read < range.Range.Length && (got = snapshot.ReadSome(range.Range.Start + read, everything)) > 0; read += (ulong)Math.Min((ulong)got, range.Range.Length - read)) { }
                Assert.True(read == range.Range.Length, $"{range} {range.Flags}: {read} bytes of {range.Range.Length}");
                Assert.Equal((long)range.Range.Length, stream.Length);
            }
            source.Fill(at, 16 * MiB, 1);
        }
        before.AssertUnchanged();
        Assert.Equal("", source.Awake());
    }

    [Fact]
    public void Writers_meet_one_instant()
    {
        Puppet source = NewPuppet();
        ulong baton = source.MapFilled(32 * MiB, 1);
        source.Write(baton, new byte[Page]);
        source.Write(baton + 32 * MiB - Page, new byte[Page]);
        source.StartRelay(baton, baton + 32 * MiB - Page);
        ulong last = 0;
        for (int i = 0; i < 100; i++)
        {
            using ProcessSnapshot snapshot = ProcessSnapshot.Capture(source.Pid);
            byte[] low = new byte[Page], high = new byte[Page];
            snapshot.Read(baton, low);
            snapshot.Read(baton + 32 * MiB - Page, high);
            ulong counted = BitConverter.ToUInt64(low), followed = BitConverter.ToUInt64(high), back = BitConverter.ToUInt64(low, 512);
            Assert.True(followed <= counted && back <= followed && counted >= last, $"{counted}, {followed}, {back} after {last}");
            last = counted;
        }
        Assert.True(last > 0);
    }

    [Fact]
    public void Untouched_pages_cost_nothing_and_only_what_is_wanted_is_kept()
    {
        Puppet source = NewPuppet();
        ulong sparse = source.Map(256 * MiB), other = source.MapFilled(64 * MiB, 3), shared = source.Map(64 * MiB, flags: MapFlags.Shared);
        for (ulong at = sparse; at < sparse + 256 * MiB; at += 16 * MiB) source.Fill(at, Page, 1);
        source.Fill(shared + 8 * MiB, MiB, 2);
        ulong before = Rss(source.Pid);
        using (ProcessSnapshot whole = ProcessSnapshot.Capture(source.Pid))
        {
            Assert.Equal(16, whole.Populated(new PageRange(sparse, sparse + 256 * MiB)).Count);
            Assert.Equal(MiB, whole.Populated(new PageRange(shared, shared + 64 * MiB)).Aggregate(0UL, (sum, range) => sum + range.Length));
            byte[] page = new byte[Page];
            whole.Read(sparse + Page, page);
            Assert.Equal(new byte[Page], page);
            Assert.InRange(Rss(whole.KeeperPid), 60 * MiB, before + 8 * MiB);
        }
        using (ProcessSnapshot part = ProcessSnapshot.Capture(source.Pid, new SnapshotOptions { Ranges = [new PageRange(sparse, sparse + 256 * MiB), new PageRange(other, other + MiB)] }))
        {
            part.AssertContent(other, MiB, 3);
            Assert.Equal(Errno.EFAULT, Assert.Throws<PvmmapException>(() => part.Read(shared, new byte[1])).Errno);
            Assert.InRange(Rss(part.KeeperPid), MiB, 4 * MiB);
            Assert.All(part.Ranges, range => Assert.True(range.Range.Start >= Math.Min(sparse, other)));
        }
        // nothing of the shared memory was touched by reading it
        Assert.InRange(Rss(source.Pid), before - MiB, before + MiB);
    }

    [Fact]
    public void Shared_memory_can_be_limited_or_left_out()
    {
        Puppet source = NewPuppet();
        ulong shared = source.Map(8 * MiB, flags: MapFlags.Shared);
        source.Fill(shared, 8 * MiB, 2);
        PvmmapException exception = Assert.Throws<PvmmapException>(() => ProcessSnapshot.Capture(source.Pid, new SnapshotOptions { MaximumSharedBytes = 4 * MiB }));
        Assert.Equal(Errno.EFBIG, exception.Errno);
        source.AssertContent(shared, 8 * MiB, 2);
        using ProcessSnapshot snapshot = ProcessSnapshot.Capture(source.Pid, new SnapshotOptions { SharedMemory = false });
        exception = Assert.Throws<PvmmapException>(() => snapshot.Read(shared, new byte[1]));
        Assert.Contains("left out", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Only_the_kinds_that_are_wanted_of_shared_memory_are_copied_and_count()
    {
        Puppet source = NewPuppet();
        string path = Path.Combine(Theatre.NewFolder($"shared-{Guid.NewGuid():N}"), "file");
        File.WriteAllBytes(path, new byte[8 * MiB]);
        ulong anonymous = source.Map(MiB, flags: MapFlags.Shared), file = source.Map(8 * MiB, flags: MapFlags.Shared, fd: source.OpenFile(path));
        source.Fill(anonymous, MiB, 1);
        source.Fill(file, 8 * MiB, 2);
        SnapshotOptions little = new() { MaximumSharedBytes = 4 * MiB };
        Assert.Equal(Errno.EFBIG, Assert.Throws<PvmmapException>(() => ProcessSnapshot.Capture(source.Pid, little)).Errno);
        using (ProcessSnapshot snapshot = ProcessSnapshot.Capture(source.Pid, little with { SharedKinds = CoreFilter.AnonymousShared }))
        {
            snapshot.AssertContent(anonymous, MiB, 1);
            Assert.Contains("left out", Assert.Throws<PvmmapException>(() => snapshot.Read(file, new byte[1])).Message, StringComparison.Ordinal);
        }
        using (ProcessSnapshot snapshot = ProcessSnapshot.Capture(source.Pid, new SnapshotOptions { SharedKinds = CoreFilter.MappedShared }))
        {
            snapshot.AssertContent(file, 8 * MiB, 2);
            Assert.Equal(Errno.EFAULT, Assert.Throws<PvmmapException>(() => snapshot.Read(anonymous, new byte[1])).Errno);
        }
        source.Must(source.Advise(anonymous, MiB, Madv.DontDump), "madvise");
        using ProcessSnapshot forCore = ProcessSnapshot.Capture(source.Pid, new SnapshotOptions { SharedDontDump = false });
        Assert.Equal(Errno.EFAULT, Assert.Throws<PvmmapException>(() => forCore.Read(anonymous, new byte[1])).Errno);
        forCore.AssertContent(file, 8 * MiB, 2);
    }

    /// <summary>A thread that is stopped wakes up for it: the kernel counts how often each has run.</summary>
    [Fact]
    public void Too_much_shared_memory_is_refused_without_a_stop()
    {
        Puppet source = NewPuppet();
        source.StartIdlers(5);
        ulong first = source.Map(8 * MiB, flags: MapFlags.Shared), second = source.Map(8 * MiB, flags: MapFlags.Shared);
        source.Fill(first, 8 * MiB, 1);
        source.Fill(second, 8 * MiB, 2);
        ProcessRecord.TakeAtRest(source.Pid);
        string[] before = Switches();
        Assert.Equal(6, before.Length);
        PvmmapException exception = Assert.Throws<PvmmapException>(() => ProcessSnapshot.Capture(source.Pid, new SnapshotOptions { MaximumSharedBytes = 12 * MiB }));
        Assert.Equal(Errno.EFBIG, exception.Errno);
        Assert.Equal(before, Switches());
        ProcessSnapshot.Capture(source.Pid, new SnapshotOptions { MaximumSharedBytes = 16 * MiB }).Dispose();
        Assert.NotEqual(before, Switches());

        string[] Switches() => [.. Directory.GetDirectories($"/proc/{source.Pid}/task").Order(StringComparer.Ordinal)
            .Select(task => string.Join(' ', File.ReadLines($"{task}/status").Where(line => line.Contains("ctxt_switches", StringComparison.Ordinal))))];
    }

    [Fact]
    public void The_figures_of_smaps_are_in_it()
    {
        Puppet source = NewPuppet();
        ulong own = source.MapFilled(MiB, 1), shared = source.Map(MiB, flags: MapFlags.Shared), untouched = source.Map(MiB), hidden = source.Map(MiB, Prot.None);
        source.Fill(shared, MiB / 2, 2);
        source.Must(source.Syscall(Sys.mlock, (long)own, (long)MiB), "mlock");
        Dictionary<ulong, Dictionary<string, ulong>> expected = Figures();
        using ProcessSnapshot snapshot = ProcessSnapshot.Capture(source.Pid);
        foreach (ulong at in (ulong[])[own, shared, untouched, hidden])
        {
            SnapshotRange range = snapshot.Ranges.Single(range => range.Range.Start <= at && at < range.Range.End);
            SnapshotUsage usage = range.Usage!;
            (string Name, ulong Bytes)[] figures =
            [
                ("Rss", usage.Rss), ("Pss", usage.Pss), ("Shared_Clean", usage.SharedClean), ("Shared_Dirty", usage.SharedDirty), ("Private_Clean", usage.PrivateClean),
                ("Private_Dirty", usage.PrivateDirty), ("Referenced", usage.Referenced), ("Anonymous", usage.Anonymous), ("AnonHugePages", usage.AnonHugePages),
                ("ShmemPmdMapped", usage.ShmemPmdMapped), ("Shared_Hugetlb", usage.SharedHugetlb), ("Private_Hugetlb", usage.PrivateHugetlb), ("Swap", usage.Swap),
                ("SwapPss", usage.SwapPss), ("Locked", usage.Locked), ("KernelPageSize", usage.KernelPageSize),
            ];
            Assert.Equal(figures.Select(figure => (figure.Name, expected[range.Range.Start].GetValueOrDefault(figure.Name))), figures);
        }
        Assert.True(snapshot.Ranges.Single(range => range.Range.Start <= own && own < range.Range.End).Usage!.Locked >= MiB);

        Dictionary<ulong, Dictionary<string, ulong>> Figures()
        {
            Dictionary<ulong, Dictionary<string, ulong>> all = [];
            Dictionary<string, ulong> figures = [];
            foreach (string[] words in File.ReadLines($"/proc/{source.Pid}/smaps").Select(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries)))
            {
                if (!words[0].EndsWith(':')) all.Add(ulong.Parse(words[0].Split('-')[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture), figures = []);
                else if (words[^1] == "kB") figures.Add(words[0][..^1], ulong.Parse(words[1], CultureInfo.InvariantCulture) * 1024);
            }
            return all;
        }
    }

    [Fact]
    public void A_process_whose_main_thread_has_ended_is_told_apart_from_one_that_exits()
    {
        const int exit = 60;
        Puppet source = NewPuppet(), other = NewPuppet();
        source.StartIdlers(2);
        source.Post($"syscall {exit} 0 0 0 0 0 0");
        Eventually.Holds(() => ProcessStatus.State(source.Pid) == 'Z', "the main thread ends");
        Assert.Equal(3UL, ProcessStatus.Figure(source.Pid, "Threads"));
        try
        {
            foreach (Action attempt in (Action[])[() => ProcessSnapshot.Capture(source.Pid), () => Call(source, other, 0x10000, MiB), () => Call(other, source, 0x10000, MiB)])
            {
                PvmmapException exception = Assert.Throws<PvmmapException>(attempt);
                Assert.Equal(Errno.ESRCH, exception.Errno);
                Assert.Contains("its main thread has ended", exception.Message, StringComparison.Ordinal);
            }
        }
        finally
        {
            source.Kill();
        }
    }

    [Fact]
    public void Private_memory_that_is_copied_does_not_count_as_shared()
    {
        Puppet source = NewPuppet();
        ulong shared = source.Map(MiB, flags: MapFlags.Shared), wiped = source.MapFilled(MiB, 1);
        Assert.True(wiped < shared, "the kernel maps from above, and memory is copied from below");
        source.Fill(shared, MiB, 2);
        source.Must(source.Advise(wiped, MiB, Madv.WipeOnFork), "madvise");
        using ProcessSnapshot snapshot = ProcessSnapshot.Capture(source.Pid, new SnapshotOptions { MaximumSharedBytes = MiB });
        snapshot.AssertContent(wiped, MiB, 1);
        snapshot.AssertContent(shared, MiB, 2);
    }

    /// <summary>As .NET maps copy-on-write views of a MemoryMappedFile. More of them than the advice is lifted from.</summary>
    [Fact]
    public void Private_file_mappings_withheld_from_a_fork_are_the_files_where_they_were_never_touched()
    {
        Puppet source = NewPuppet();
        string file = Path.Combine(Theatre.NewFolder($"views-{Guid.NewGuid():N}"), "file");
        byte[] content = [.. Enumerable.Range(0, (int)(8 * Page)).Select(i => (byte)(i >> 4 | 1))];
        File.WriteAllBytes(file, content);
        int fd = source.OpenFile(file);
        List<ulong> views = [];
        for (int i = 0; i < 12; i++)
        {
            ulong at = source.Map(8 * Page, flags: MapFlags.Private, fd: fd);
            source.Write(at + Page, "changed"u8);
            source.Must(source.Advise(at, 8 * Page, Madv.DontFork), "madvise");
            source.Map(Page, Prot.None); // else they might be one
            views.Add(at);
        }
        "changed"u8.CopyTo(content.AsSpan((int)Page));
        using ProcessSnapshot snapshot = ProcessSnapshot.Capture(source.Pid);
        byte[] seen = new byte[content.Length];
        foreach (ulong at in views)
        {
            source.Write(at + 2 * Page, "later"u8);
            snapshot.Read(at, seen);
            Assert.True(seen.AsSpan().SequenceEqual(content), $"view {views.IndexOf(at)} differs from page {seen.AsSpan().CommonPrefixLength(content) / (int)Page} on");
            Assert.Contains("dc", Smaps.Within(source.Pid, at, Page)[0].Flags, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void What_a_userfaultfd_of_somebody_else_guards_is_absent()
    {
        Puppet source = NewPuppet();
        ulong at = source.Map(MiB), other = source.MapFilled(MiB, 1);
        source.RegisterUserfaultfd(at, MiB);
        using ProcessSnapshot snapshot = ProcessSnapshot.Capture(source.Pid);
        SnapshotRange guarded = Assert.Single(snapshot.Ranges, range => range.Range.Overlaps(new PageRange(at, at + MiB)));
        Assert.Equal(SnapshotContent.Absent, guarded.Content);
        PvmmapException exception = Assert.Throws<PvmmapException>(() => snapshot.Read(at, new byte[1]));
        Assert.Equal(Errno.EFAULT, exception.Errno);
        Assert.Contains("userfaultfd", exception.Message, StringComparison.Ordinal);
        snapshot.AssertContent(other, MiB, 1);
    }

    [Fact]
    public void A_detached_snapshot_can_be_opened_by_another_process()
    {
        Puppet source = NewPuppet();
        ulong at = source.MapFilled(4 * MiB, 1), shared = source.Map(MiB, flags: MapFlags.Shared);
        source.Fill(shared, MiB, 5);
        int keeper;
        using (ProcessSnapshot snapshot = ProcessSnapshot.Capture(source.Pid))
        {
            keeper = snapshot.KeeperPid;
            SnapshotListing listed = Assert.Single(ProcessSnapshot.Running(), listing => listing.KeeperPid == keeper);
            Assert.Equal((source.Pid, Environment.ProcessId, "puppet"), (listed.ProcessId, listed.OwnerPid, listed.Name));
            Assert.Equal(Errno.EBUSY, Assert.Throws<PvmmapException>(() => ProcessSnapshot.Open(keeper)).Errno);
            snapshot.Detach();
        }
        source.Fill(at, 4 * MiB, 2);
        source.Fill(shared, MiB, 6);
        Assert.Equal(0, Assert.Single(ProcessSnapshot.Running(), listing => listing.KeeperPid == keeper).OwnerPid);
        using ProcessSnapshot opened = ProcessSnapshot.Open(keeper);
        opened.AssertContent(at, 4 * MiB, 1);
        opened.AssertContent(shared, MiB, 5);
        Assert.Single(opened.Threads);
        opened.Release();
        Assert.Throws<ObjectDisposedException>(opened.Release);
        Assert.DoesNotContain(ProcessSnapshot.Running(), listing => listing.KeeperPid == keeper);
        Assert.Equal(Errno.ESRCH, Assert.Throws<PvmmapException>(() => ProcessSnapshot.Open(keeper)).Errno);
        Assert.Equal(Errno.EINVAL, Assert.Throws<PvmmapException>(() => ProcessSnapshot.Open(source.Pid)).Errno);
    }

    [Fact]
    public void It_outlives_the_process_and_says_when_its_keeper_was_killed()
    {
        Puppet source = NewPuppet();
        ulong at = source.MapFilled(4 * MiB, 1);
        using ProcessSnapshot snapshot = ProcessSnapshot.Capture(source.Pid);
        source.Kill();
        snapshot.AssertContent(at, 4 * MiB, 1);
        Libc.Kill(snapshot.KeeperPid, 9);
        Eventually.Holds(() => !ProcessStatus.IsAlive(snapshot.KeeperPid), "the keeper is gone");
        Assert.Equal(Errno.EAGAIN, Assert.Throws<PvmmapException>(() => snapshot.Read(at, new byte[1])).Errno);
        Assert.Equal(Errno.EAGAIN, Assert.Throws<PvmmapException>(() => snapshot.Populated(new PageRange(at, at + MiB))).Errno);
    }

    [Fact]
    public void A_range_can_be_mapped_into_a_live_process()
    {
        Puppet source = NewPuppet(), debugger = NewPuppet();
        ulong at = source.MapFilled(8 * MiB, 1), shared = source.Map(MiB, flags: MapFlags.Shared);
        source.Fill(shared, MiB, 5);
        using ProcessSnapshot snapshot = ProcessSnapshot.Capture(source.Pid);
        source.Fill(at, 8 * MiB, 2);
        source.Fill(shared, MiB, 6);
        foreach (AddressSpace target in new AddressSpace[] { debugger, Own })
        {
            MmapResult result = snapshot.MapInto(target.Pid, at, 8 * MiB);
            Remember(result, target);
            target.AssertContent(result.Address, 8 * MiB, 1);
            AssertCompletes(result);
            target.Fill(result.Address, MiB, 9);
            MmapResult second = snapshot.MapInto(target.Pid, shared, MiB);
            Remember(second, target);
            target.AssertContent(second.Address, MiB, 5);
            AssertCompletes(second);
        }
        snapshot.AssertContent(at, 8 * MiB, 1);
        snapshot.AssertContent(shared, MiB, 5);
        Assert.Equal(Errno.EINVAL, Assert.Throws<PvmmapException>(() => snapshot.MapInto(debugger.Pid, at, MiB, flags: MmapFlags.Move)).Errno);
        ulong vvar = snapshot.Ranges.Single(range => range.Name == "[vvar]").Range.Start;
        Assert.Equal(Errno.EFAULT, Assert.Throws<PvmmapException>(() => snapshot.MapInto(debugger.Pid, vvar, Page)).Errno);
    }

    [Fact]
    public void A_confined_process_is_captured_and_kept_standing_still()
    {
        Puppet source = NewPuppet();
        ulong at = source.MapFilled(8 * MiB, 1);
        Seccomp.Confine(source);
        using (ProcessSnapshot snapshot = ProcessSnapshot.Capture(source.Pid))
        {
            source.Fill(at, 8 * MiB, 2);
            snapshot.AssertContent(at, 8 * MiB, 1);
            Assert.NotEmpty(snapshot.Notes);
            Assert.NotEmpty(snapshot.Descriptors);
            Assert.Empty(Directory.GetFileSystemEntries($"/proc/{snapshot.KeeperPid}/fd"));
            Assert.NotEqual(ProcessStatus.Session(source.Pid), ProcessStatus.Session(snapshot.KeeperPid));
            Assert.Equal(Errno.EOPNOTSUPP, Assert.Throws<PvmmapException>(snapshot.Detach).Errno);
            Assert.Equal(Errno.EOPNOTSUPP, Assert.Throws<PvmmapException>(() => snapshot.MapInto(Own.Pid, at, MiB)).Errno);
        }
        source.AssertContent(at, 8 * MiB, 2);
    }

    [Fact]
    public void A_range_still_being_filled_is_completed_first()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(64 * MiB, 1);
        MmapResult result = Call(source, target, at, 64 * MiB, flags: MmapFlags.Lazy);
        using ProcessSnapshot snapshot = ProcessSnapshot.Capture(target.Pid);
        snapshot.AssertContent(result.Address, 64 * MiB, 1);
        AssertCompletes(result);
    }

    [Fact]
    public void What_cannot_be_captured_is_refused()
    {
        Puppet source = NewPuppet();
        AssertRefused(Errno.EINVAL, Environment.ProcessId);
        AssertRefused(Errno.EINVAL, 2);
        AssertRefused(Errno.ESRCH, 999_999_999);
        Assert.Equal(Errno.EINVAL, Assert.Throws<PvmmapException>(() => ProcessSnapshot.Capture(source.Pid, new SnapshotOptions { Ranges = [] })).Errno);
        Assert.Equal(Errno.EINVAL, Assert.Throws<PvmmapException>(() => ProcessSnapshot.Capture(source.Pid, new SnapshotOptions { Ranges = [new PageRange(Page, Page)] })).Errno);

        static void AssertRefused(Errno errno, int pid) => Assert.Equal(errno, Assert.Throws<PvmmapException>(() => ProcessSnapshot.Capture(pid)).Errno);
    }

    [Fact]
    public void The_own_memory_while_it_is_written()
    {
        ulong at = Map(Own, 64 * MiB), other = Map(Own, 8 * MiB);
        Own.Fill(at, 64 * MiB, 1);
        Own.Fill(other, 8 * MiB, 2);
        // withheld from a fork: the content arrives like any other
        Own.Must(Own.Advise(other, 4 * MiB, Madv.DontFork), "madvise");
        Own.Must(Own.Advise(other + 4 * MiB, 4 * MiB, Madv.WipeOnFork), "madvise");
        using (ProcessSnapshot snapshot = ProcessSnapshot.CaptureSelf(new PageRange(at, at + 64 * MiB), new PageRange(other, other + 8 * MiB)))
        {
            Own.Fill(at, 64 * MiB, 3);
            Own.Fill(other, 8 * MiB, 4);
            snapshot.AssertContent(at, 64 * MiB, 1);
            snapshot.AssertContent(other, 8 * MiB, 2);
            Assert.InRange(Rss(snapshot.KeeperPid), 72 * MiB, 80 * MiB);
            Assert.Empty(snapshot.Threads);
        }
        Assert.Contains("dc", Smaps.Within(Own.Pid, other, Page)[0].Flags, StringComparison.Ordinal);
        Assert.Contains("wf", Smaps.Within(Own.Pid, other + 4 * MiB, Page)[0].Flags, StringComparison.Ordinal);
        ulong shared = Map(Own, MiB, flags: MapFlags.Shared);
        Assert.Equal(Errno.EOPNOTSUPP, Assert.Throws<PvmmapException>(() => ProcessSnapshot.CaptureSelf(new PageRange(shared, shared + MiB))).Errno);
        Assert.Equal(Errno.EFAULT, Assert.Throws<PvmmapException>(() => ProcessSnapshot.CaptureSelf(new PageRange(Page, 2 * Page))).Errno);
    }

    private static byte[]?[] ReadPages(int pid, ulong start, ulong length)
    {
        using FileStream memory = new($"/proc/{pid}/mem", FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
        byte[]?[] pages = new byte[length / Page][];
        for (int i = 0; i < pages.Length; i++)
        {
            byte[] page = new byte[Page];
            try
            {
                memory.Position = (long)(start + ((ulong)i * Page));
                memory.ReadExactly(page);
                pages[i] = page;
            }
            catch (IOException)
            {
                pages[i] = null;
            }
        }
        return pages;
    }

    private static ulong Rss(int pid) => ulong.Parse(File.ReadLines($"/proc/{pid}/status").First(line => line.StartsWith("VmRSS", StringComparison.Ordinal)).Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) * 1024;
}
