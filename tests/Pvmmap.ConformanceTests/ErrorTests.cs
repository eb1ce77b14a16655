using System.Globalization;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>
/// Each row of the contract's error table, through the .NET method in every direction and through the C function in both of its own. Each
/// time source and target must be exactly as they were.
/// </summary>
public sealed class ErrorTests(Theatre theatre) : Scene(theatre)
{
    private const ulong AddressSpaceEnd = 0x7fff_ffff_f000, TiB = 1UL << 40;

    private static readonly Dictionary<string, Row> s_rows = Rows().ToDictionary(row => row.Name);

    public static TheoryData<string, Way> ManagedRows => Select(Enum.GetValues<Way>(), nativeCaller: false);

    public static TheoryData<string, Way> NativeRows => Select([Way.Pull, Way.Push], nativeCaller: true);

    [Theory]
    [MemberData(nameof(ManagedRows))]
    public void Through_the_method(string row, Way way)
    {
        Situation s = Arrange(s_rows[row], way, caller: null);
        ProcessRecord[] before = Snapshots(s);
        var exception = Assert.Throws<PvmmapException>(() => Remember(Invoke(s), s.Target));
        Assert.True(exception.Errno == s_rows[row].Errno, $"expected {s_rows[row].Errno}, got: {exception.Message}");
        AssertAsBefore(s, before);
    }

    [Theory]
    [Trait(CFunctionWays.Trait, CFunctionWays.Value)]
    [MemberData(nameof(NativeRows))]
    public void Through_the_C_function(string row, Way way)
    {
        Puppet caller = NewPuppet().LoadLibrary();
        Situation s = Arrange(s_rows[row], way, caller);
        ProcessRecord[] before = Snapshots(s, except: caller);
        (long result, Errno errno) = caller.Call(way == Way.Pull ? s.SourcePid : -s.TargetPid, s.Address, s.Length, s.At, s.Flags);
        Assert.True((result, errno) == (-1, s_rows[row].Errno), $"expected {s_rows[row].Errno}, got {result} with {errno}");
        AssertAsBefore(s, before);
    }

    [Fact]
    public void The_message_names_the_VMA_that_cannot_be_copied()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        Vma vma = Smaps.Read(source.Pid).Single(each => each.Name == "[vvar]");
        PvmmapException exception = Refused(Errno.EFAULT, source, target, vma.Range.Start, Page);
        Assert.Contains(vma.Range.Start.ToString("x", CultureInfo.InvariantCulture), exception.Message, StringComparison.Ordinal);
        Assert.Contains("[vvar]", exception.Message, StringComparison.Ordinal);
        Assert.Equal(source.Pid, exception.Pid);
    }

    [Fact]
    public void The_exception_says_operation_process_and_errno()
    {
        PvmmapException exception = Assert.Throws<PvmmapException>(() => ProcessVm.Mmap(DeadPid(), 0x10000, Page));
        Assert.Equal(Errno.ESRCH, exception.Errno);
        Assert.NotEmpty(exception.Operation);
        Assert.Contains("ESRCH", exception.Message, StringComparison.Ordinal);
    }

    private static IEnumerable<Row> Rows()
    {
        // arguments
        yield return new("flags -1", Errno.EINVAL, s => s.Flags = (MmapFlags)ulong.MaxValue);
        yield return new("flags INT_MAX", Errno.EINVAL, s => s.Flags = (MmapFlags)int.MaxValue);
        for (int bit = 0; bit < 64; bit++)
        {
            MmapFlags flag = (MmapFlags)(1UL << bit);
            if (flag is MmapFlags.Fixed or MmapFlags.FixedNoReplace or MmapFlags.Move or MmapFlags.Lazy or MmapFlags.Populate) continue;
            yield return new(string.Create(CultureInfo.InvariantCulture, $"flags bit {bit}"), Errno.EINVAL, s => s.Flags = flag);
        }
        yield return new("flags LAZY POPULATE", Errno.EINVAL, s => s.Flags = MmapFlags.Lazy | MmapFlags.Populate);
        yield return new("pid 0", Errno.EINVAL, s => s.Remote(0));
        yield return new("length 0", Errno.EINVAL, s => s.Length = 0);
        yield return new("length -1", Errno.EINVAL, s => s.Length = ulong.MaxValue);
        yield return new("length wraps by one", Errno.EINVAL, s => s.Length = 0 - s.Address);
        yield return new("length wraps in rounding", Errno.EINVAL, s => s.Length = 0 - s.Address - 1);
        yield return new("range passes the end of the address space", Errno.EINVAL, s => s.Length = AddressSpaceEnd);
        yield return new("range passes the end by a page", Errno.EINVAL, s => s.From(AddressSpaceEnd - Page, 2 * Page));
        yield return new("range behind the end", Errno.EINVAL, s => s.From(0xffff_8000_0000_0000, Page));
        yield return new("source page 0", Errno.EINVAL, s => s.From(0, Page));
        yield return new("source within page 0", Errno.EINVAL, s => s.From(100, 8));
        yield return new("FIXED not aligned", Errno.EINVAL, s => s.AtFixed(s.Target.FreeRange(MiB) + 1));
        yield return new("NOREPLACE not aligned", Errno.EINVAL, s => s.AtFixed(s.Target.FreeRange(MiB) + 2048, MmapFlags.FixedNoReplace));
        yield return new("FIXED passes the end", Errno.EINVAL, s => s.AtFixed(AddressSpaceEnd - Page));
        yield return new("FIXED behind the end", Errno.EINVAL, s => s.AtFixed(0xffff_ffff_ffff_f000));
        yield return new("NOREPLACE passes the end", Errno.EINVAL, s => s.AtFixed(AddressSpaceEnd - Page, MmapFlags.FixedNoReplace));
        yield return new("kernel thread", Errno.EINVAL, s => s.Remote(s.Scene.KernelThread()));

        // process and permission
        yield return new("no such process", Errno.ESRCH, s => s.Remote(s.Scene.DeadPid()));
        yield return new("no such process, largest number", Errno.ESRCH, s => s.Remote(int.MaxValue));
        yield return new("zombie", Errno.ESRCH, s => s.Remote(s.Scene.Zombie()));
        yield return new("traced by a debugger", Errno.EBUSY, s => s.Scene.Trace(s.RemotePid));

        // source VMAs
        yield return new("nothing mapped", Errno.EFAULT, s => s.Source.Unmap(s.Address, s.Length));
        yield return new("hole at the start", Errno.EFAULT, s => s.Source.Unmap(s.Address, Page));
        yield return new("hole in the middle", Errno.EFAULT, s => s.Source.Unmap(s.Address + 3 * Page, Page));
        yield return new("hole at the end", Errno.EFAULT, s => s.Source.Unmap(s.Address + 7 * Page, Page));
        yield return new("one byte behind the mapping", Errno.EFAULT, s => s.Length++);
        yield return new("a huge length", Errno.EFAULT, s => s.Length = 16 * TiB, Address: 0x1000_0000_0000);
        yield return new("vDSO", Errno.EFAULT, s => s.FromVma("[vdso]"));
        yield return new("vvar", Errno.EFAULT, s => s.FromVma("[vvar]"));
        yield return new("AIO ring", Errno.EFAULT, s => s.FromAioRing());
        yield return new("secret memory", Errno.EFAULT, s => s.FromSecretMemory());
        yield return new("userfaultfd of somebody else", Errno.EOPNOTSUPP, s => s.RegisterUserfaultfd(), SourceIsPuppet: true);

        // destination
        yield return new("NOREPLACE, whole", Errno.EEXIST, s => s.Occupied(before: 0, pages: 8, at: 0));
        yield return new("NOREPLACE, inner", Errno.EEXIST, s => s.Occupied(before: 4, pages: 2, at: 0));
        yield return new("NOREPLACE, containing", Errno.EEXIST, s => s.Occupied(before: 0, pages: 16, at: 4));
        yield return new("NOREPLACE, overlapping the start", Errno.EEXIST, s => s.Occupied(before: 4, pages: 8, at: 8));
        yield return new("NOREPLACE, overlapping the end", Errno.EEXIST, s => s.Occupied(before: 8, pages: 8, at: 4));
        yield return new("NOREPLACE, first page", Errno.EEXIST, s => s.Occupied(before: 4, pages: 1, at: 4));
        yield return new("NOREPLACE, last page", Errno.EEXIST, s => s.Occupied(before: 11, pages: 1, at: 4));
        yield return new("NOREPLACE wins over FIXED", Errno.EEXIST, s => { s.Occupied(before: 0, pages: 8, at: 0); s.Flags |= MmapFlags.Fixed; });
        yield return new("NOREPLACE over PROT_NONE", Errno.EEXIST, s => s.Occupied(before: 0, pages: 8, at: 0, Prot.None));

        // limits
        yield return new("RLIMIT_AS", Errno.ENOMEM, s => s.LimitTarget(Rlimit.AddressSpace, "VmSize"), TargetIsPuppet: true);
        yield return new("RLIMIT_DATA", Errno.ENOMEM, s => s.LimitTarget(Rlimit.Data, "VmData"), TargetIsPuppet: true);
        yield return new("map count", Errno.ENOMEM, s => ((Puppet)s.Target).Fragment(1 << 20), TargetIsPuppet: true, NativeCaller: false);
        yield return new("no room in the address space", Errno.ENOMEM, s => s.FillBothAddressSpaces(), SourceIsPuppet: true, TargetIsPuppet: true);
        yield return new("overcommit", Errno.ENOMEM, s => s.Overcommit(), SourceIsPuppet: true, TargetIsPuppet: true);
        yield return new("pids.max", Errno.EAGAIN, s => s.Scene.AllowNoTask(s.Source.Pid), SourceIsPuppet: true, NativeCaller: false);

        // order: arguments, process, permission, source VMAs, destination, limits
        yield return new("flags before process", Errno.EINVAL, s => { s.Flags = (MmapFlags)4; s.Remote(s.Scene.DeadPid()); });
        yield return new("alignment before process", Errno.EINVAL, s => { s.AtFixed(0x10001); s.Remote(s.Scene.DeadPid()); });
        yield return new("process before source", Errno.ESRCH, s => { s.Source.Unmap(s.Address, Page); s.Remote(s.Scene.DeadPid()); });
        yield return new("source before destination", Errno.EFAULT, s => { s.Occupied(0, 8, 0); s.Source.Unmap(s.Address, Page); });
        yield return new("source before limits", Errno.EFAULT,
            s => { s.LimitTarget(Rlimit.AddressSpace, "VmSize"); s.Source.Unmap(s.Address, Page); }, TargetIsPuppet: true);
        yield return new("destination before limits", Errno.EEXIST,
            s => { s.Occupied(0, 8, 0); s.LimitTarget(Rlimit.AddressSpace, "VmSize"); }, TargetIsPuppet: true);
    }

    private static TheoryData<string, Way> Select(Way[] ways, bool nativeCaller)
    {
        var data = new TheoryData<string, Way>();
        foreach (Row row in s_rows.Values)
        {
            foreach (Way way in ways)
            {
                // a puppet as caller makes either side a puppet, the test's own process does not
                if (nativeCaller ? !row.NativeCaller : (row.SourceIsPuppet && way == Way.Push) || (row.TargetIsPuppet && way == Way.Pull)) continue;
                data.Add(row.Name, way);
            }
        }
        return data;
    }

    private Situation Arrange(Row row, Way way, Puppet? caller)
    {
        (AddressSpace source, AddressSpace target) = caller is null ? Pair(way) : way == Way.Pull ? (NewPuppet(), caller) : (caller, NewPuppet());
        var situation = new Situation(this, way, source, target) { Length = 8 * Page, Address = row.Address };
        // free pages around it, so that what lies behind the range is known to be nothing
        if (situation.Address == 0) situation.Address = source.FreeRange(MiB);
        Map(source, 8 * Page, flags: MapFlags.Fixed, at: situation.Address);
        source.Fill(situation.Address, 8 * Page, 3);
        row.Arrange(situation);
        return situation;
    }

    private static MmapResult Invoke(Situation s) => s.Way switch
    {
        Way.Pull => ProcessVm.Mmap(s.SourcePid, s.Address, s.Length, s.At, s.Flags),
        Way.Push => ProcessVm.Mmap(-s.TargetPid, s.Address, s.Length, s.At, s.Flags),
        _ => ProcessVm.MmapBetween(s.SourcePid, s.TargetPid, s.Address, s.Length, s.At, s.Flags),
    };

    private static ProcessRecord[] Snapshots(Situation s, AddressSpace? except = null) =>
        [.. new[] { s.Source, s.Target }.Where(space => space is Puppet && space != except).Select(space => ProcessRecord.TakeAtRest(space.Pid))];

    private static void AssertAsBefore(Situation s, ProcessRecord[] before)
    {
        foreach (ProcessRecord snapshot in before) snapshot.AssertUnchanged();
        // both still answer
        foreach (AddressSpace space in (AddressSpace[])[s.Source, s.Target])
            if (space is Puppet puppet && ProcessStatus.State(puppet.Pid) is not ('Z' or null)) Assert.True(puppet.Scratch > 0);
    }

    private int DeadPid()
    {
        Puppet puppet = NewPuppet();
        puppet.Kill();
        return puppet.Pid;
    }

    private int Zombie()
    {
        Puppet parent = NewPuppet(), child = ForkOf(parent);
        child.Post($"exit 0");
        Eventually.Equals('Z', () => ProcessStatus.State(child.Pid), "the child becomes a zombie");
        return child.Pid;
    }

    private int KernelThread()
    {
        Machine.Require(ProcessStatus.Name(2) == "kthreadd", "no kernel thread is visible in this pid namespace");
        return 2;
    }

    private void Trace(int pid)
    {
        Machine.Require(pid != Environment.ProcessId, "the test does not trace itself");
        int started = Theatre.Start(Theatre.Program("tracer"), Theatre.Door, pid.ToString(CultureInfo.InvariantCulture));
        Actor tracer = Cast(new Actor(Theatre, started, fromNursery: true));
        Assert.Equal("seized", tracer.Answer()[0]);
    }

    private void AllowNoTask(int pid)
    {
        Cgroup cgroup = Borrow(Cgroup.Pids());
        cgroup.Enter(pid);
        cgroup["pids.max"] = 1;
    }

    /// <summary>A row of the table: what to arrange so that the call fails with the errno.</summary>
    private sealed record Row(
        string Name, Errno Errno, Action<Situation> Arrange, bool SourceIsPuppet = false, bool TargetIsPuppet = false, bool NativeCaller = true,
        ulong Address = 0);

    /// <summary>A call that is about to be made: eight pages of pattern in the source, no destination asked for.</summary>
    private sealed class Situation(ErrorTests scene, Way way, AddressSpace source, AddressSpace target)
    {
        public ErrorTests Scene => scene;

        public Way Way => way;

        public AddressSpace Source => source;

        public AddressSpace Target => target;

        public int SourcePid { get; private set; } = source.Pid;

        public int TargetPid { get; private set; } = target.Pid;

        public ulong Address { get; set; }

        public ulong Length { get; set; }

        public ulong At { get; set; }

        public MmapFlags Flags { get; set; }

        /// <summary>The process that is not the caller; of two such the source.</summary>
        public int RemotePid => way == Way.Push ? TargetPid : SourcePid;

        public string Program => new FileInfo($"/proc/{source.Pid}/exe").LinkTarget!;

        public void Remote(int pid)
        {
            if (way == Way.Push) TargetPid = pid;
            else SourcePid = pid;
        }

        public void From(ulong address, ulong length) => (Address, Length) = (address, length);

        public void AtFixed(ulong at, MmapFlags flags = MmapFlags.Fixed)
        {
            At = at;
            Flags = (flags & MmapFlags.FixedNoReplace) != 0 ? flags : flags | MmapFlags.Fixed;
        }

        public void FromVma(string name)
        {
            Vma? vma = Smaps.Read(source.Pid).FirstOrDefault(vma => vma.Name == name);
            Machine.Require(vma is not null, $"the source has no {name}");
            From(vma!.Range.Start, vma.Range.Length);
        }

        /// <summary>A mapping of so many pages, this far into a free range, and the call aims at page <paramref name="at"/> of that range.</summary>
        public void Occupied(ulong before, ulong pages, ulong at, Prot protection = Prot.ReadWrite)
        {
            ulong free = target.FreeRange(32 * Page);
            scene.Map(target, pages * Page, protection, MapFlags.Fixed, free + before * Page);
            AtFixed(free + at * Page, MmapFlags.FixedNoReplace);
        }

        public void LimitTarget(Rlimit resource, string figure) =>
            ((Puppet)target).Limit(resource, ProcessStatus.Figure(target.Pid, figure) + Page);

        /// <summary>The source has 80 TiB reserved, the target too: there is no second room of that size.</summary>
        public void FillBothAddressSpaces()
        {
            From(source.Map(80 * TiB, Prot.None, MapFlags.NoReserve), 80 * TiB);
            target.Map(80 * TiB, Prot.None, MapFlags.NoReserve);
        }

        /// <summary>More writable memory in one piece than the heuristic overcommit grants; made of two pieces that it did grant.</summary>
        public void Overcommit()
        {
            Machine.Require(File.ReadAllText("/proc/sys/vm/overcommit_memory").Trim() == "0", "needs vm.overcommit_memory = 0");
            string[] lines = [.. File.ReadLines("/proc/meminfo")];
            ulong Kib(string key) => ulong.Parse(lines.First(line => line.StartsWith(key, StringComparison.Ordinal))
                .Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture);
            ulong half = ((Kib("MemTotal:") + Kib("SwapTotal:")) * 1024 * 3 / 4) & ~(2 * MiB - 1);
            From(source.Map(2 * half, Prot.None), 2 * half);
            source.Protect(Address, half, Prot.ReadWrite);
            source.Protect(Address + half, half, Prot.ReadWrite);
        }

        public void FromAioRing()
        {
            ulong context = scene.Map(source, Page);
            long made = source.Syscall(Sys.io_setup, 8, (long)context);
            Machine.RequireSystemCall(made, "io_setup");
            source.Must(made, "io_setup");
            From(BitConverter.ToUInt64(source.Read(context, 8)), Page);
            if (source is OwnProcess) scene.UnmapAtEnd(Address, Page);
        }

        public void FromSecretMemory()
        {
            long fd = source.Syscall(Sys.memfd_secret, 0);
            Machine.RequireSystemCall(fd, "memfd_secret (secretmem.enable)");
            source.Must(fd, "memfd_secret");
            source.Must(source.Syscall(77, fd, (long)MiB), "ftruncate");
            From(scene.Map(source, Page), Page);
            source.Must(source.Syscall(Sys.mmap, (long)Address, (long)Page, 3, (long)(MapFlags.Shared | MapFlags.Fixed), fd, 0), "mmap");
        }

        public void RegisterUserfaultfd() => ((Puppet)source).RegisterUserfaultfd(Address, Length);
    }
}
