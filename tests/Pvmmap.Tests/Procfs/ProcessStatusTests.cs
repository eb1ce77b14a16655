using System.Globalization;
using System.Text;
using CsCheck;
using Pvmmap.Procfs;
using Xunit;

namespace Pvmmap.Tests.Procfs;

public class ProcessStatusTests
{
    private const string Process = """
        Name:	dotnet
        Umask:	0022
        State:	t (tracing stop)
        Tgid:	4120
        Ngid:	0
        Pid:	4123
        PPid:	17
        TracerPid:	99
        Uid:	1000	1001	1002	1003
        Gid:	2000	2001	2002	2003
        FDSize:	256
        Groups:	4 24 27
        NStgid:	4120	12	3
        NSpid:	4123	15	6
        NSpgid:	4120	12	3
        NSsid:	4120	12	3
        Kthread:	0
        VmPeak:	  274312 kB
        VmSize:	  208776 kB
        VmHWM:	   97224 kB
        VmRSS:	   97128 kB
        RssAnon:	   50000 kB
        VmSwap:	      12 kB
        CoreDumping:	0
        Threads:	14
        SigQ:	0/96365
        SigPnd:	0000000000000100
        ShdPnd:	0000000000000200
        SigBlk:	fffffffe7ffbfeff
        SigIgn:	0000000000001000
        SigCgt:	00000001800044ef
        CapPrm:	000001ffffffffff
        CapEff:	000000ffffffffff
        NoNewPrivs:	0
        Seccomp:	2
        Seccomp_filters:	1
        Cpus_allowed:	3

        """;

    private static ProcessStatus Parse(string text) => ProcessStatus.Parse(Encoding.UTF8.GetBytes(text));

    [Fact]
    public void Every_field_is_read()
    {
        ProcessStatus status = Parse(Process);
        Assert.Equal(("dotnet", 't'), (status.Name, status.State));
        Assert.Equal((4120, 4123, 17, 99), (status.Tgid, status.Pid, status.PPid, status.TracerPid));
        Assert.Equal((1000u, 1001u, 2000u, 2001u), (status.RealUid, status.EffectiveUid, status.RealGid, status.EffectiveGid));
        Assert.Equal((14, 2), (status.Threads, status.Seccomp));
        Assert.False(status.IsKernelThread);
        Assert.Equal((274312ul << 10, 97224ul << 10), (status.VmPeak, status.VmHWM));
        Assert.Equal((97128ul << 10, 50000ul << 10, 12ul << 10), (status.VmRSS, status.RssAnon, status.VmSwap));
        Assert.Equal((0x100ul, 0x200ul, 0xfffffffe7ffbfefful), (status.SigPnd, status.ShdPnd, status.SigBlk));
        Assert.Equal((0x1000ul, 0x1800044eful), (status.SigIgn, status.SigCgt));
        Assert.Equal((0x1fffffffffful, 0xfffffffffful), (status.CapPrm, status.CapEff));
        Assert.Equal((1002u, 1003u, 2002u, 2003u), (status.SavedUid, status.FsUid, status.SavedGid, status.FsGid));
        Assert.Equal([4123, 15, 6], status.NSpid);
    }

    [Fact]
    public void A_kernel_thread_has_no_memory_lines()
    {
        ProcessStatus status = Parse("Name:\tkworker/0:1-events\nState:\tI (idle)\nTgid:\t9\nPid:\t9\nKthread:\t1\nThreads:\t1\n");
        Assert.True(status.IsKernelThread);
        Assert.Equal((0ul, 0ul), (status.VmPeak, status.VmRSS));
        Assert.Equal("kworker/0:1-events", status.Name);
    }

    [Theory]
    [InlineData("State:\tS (sleeping)\nVmPeak:\t8 kB\nSigPnd:\t0000000000000001\n", false)]
    [InlineData("State:\tS (sleeping)\nVmPeak:\t8 kB\nSigPnd:\t0000000000000100\n", true)] // killed, and has not run since
    [InlineData("State:\tR (running)\nSigPnd:\t0000000000000000\n", true)] // its memory is gone
    [InlineData("State:\tI (idle)\nKthread:\t1\n", false)]
    [InlineData("State:\tZ (zombie)\n", true)]
    public void Who_is_being_taken_down_is_ending(string lines, bool ending) => Assert.Equal(ending, Parse($"Name:\tx\nPid:\t9\n{lines}").IsEnding);

    [Fact]
    public void An_old_kernel_does_not_say_whether_it_is_a_kernel_thread() =>
        Assert.Null(Parse("Name:\tx\nState:\tS (sleeping)\nTgid:\t9\nPid:\t9\n").Kthread);

    [Theory]
    [InlineData(@"a\nb", "a\nb")]
    [InlineData(@"a\\nb", @"a\nb")]
    [InlineData(@"\\", @"\")]
    [InlineData(@"a\", @"a\")]
    [InlineData(@"a\tb", @"a\tb")]
    [InlineData("  a b:c ", "  a b:c ")]
    [InlineData("", "")]
    public void Names_are_unescaped(string shown, string name) => Assert.Equal(name, Parse($"Name:\t{shown}\nState:\tS\nPid:\t9\n").Name);

    [Theory]
    [InlineData("")]
    [InlineData("Name:\tx\nPid:\t1\n")]
    [InlineData("State:\tS (sleeping)\nPid:\t1\n")]
    [InlineData("Name:\tx\nState:\tS (sleeping)\n")]
    [InlineData("Name:\tx\nState:\tsleeping\nPid:\t1\n")]
    [InlineData("Name:\tx\nState:\nPid:\t1\n")]
    [InlineData("Name:\tx\nState:\tS\nPid:\tx\n")]
    [InlineData("Name:\tx\nState:\tS\nPid:\t1\nUid:\t1\n")]
    [InlineData("Name:\tx\nState:\tS\nPid:\t1\nSigBlk:\tq\n")]
    [InlineData("Name:\tx\nState:\tS\nPid:\t1\nVmRSS:\t1\n")]
    [InlineData("Name:\tx\nState:\tS\nPid:\t1\nNSpid:\t1 x\n")]
    [InlineData("Name:\tx\nState:\tS\nPid:\t1\nno field\n")]
    public void Text_the_kernel_does_not_write_is_a_FormatException(string text) => Assert.Throws<FormatException>(() => Parse(text));

    [Fact]
    public void Masks_are_read_back() =>
        Gen.Select(Gen.ULong, Gen.ULong, Gen.UInt, Gen.Int[1, 4 << 20].Array[0, 4]).Sample((blocked, capabilities, uid, pids) =>
        {
            ProcessStatus status = Parse(string.Create(CultureInfo.InvariantCulture,
                $"Name:\tx\nState:\tS (sleeping)\nPid:\t1\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nNSpid:\t{string.Join('\t', pids)}\n" +
                $"SigBlk:\t{blocked:x16}\nCapEff:\t{capabilities:x16}\n"));
            Assert.Equal((blocked, capabilities, uid), (status.SigBlk, status.CapEff, status.EffectiveUid));
            Assert.Equal(pids, status.NSpid);
        });

    [Fact]
    public void Damaged_text_is_a_FormatException_or_a_status() =>
        Gens.Damaged(Gen.Const(Process)).Sample(text => Gens.ParsesOrSaysMalformed(text, t => ProcessStatus.Parse(t)), iter: 2000);

    [Fact]
    public void The_callers_own_status_is_that_of_the_caller()
    {
        ProcessStatus status = ProcessStatus.Read(Environment.ProcessId);
        Assert.Equal((Environment.ProcessId, Environment.ProcessId), (status.Tgid, status.Pid));
        Assert.Equal(Environment.ProcessId, status.NSpid[0]);
        Assert.Contains(status.State, "RS");
        Assert.True(status.Threads > 1);
        Assert.False(status.IsKernelThread);
        Assert.NotNull(status.Kthread);
        Assert.True(status.VmHWM >= PageRange.PageSize && status.VmPeak >= status.VmHWM);
    }

    [Fact]
    public void Each_thread_has_a_status_of_its_own()
    {
        int pid = Environment.ProcessId;
        string[] tasks = Directory.GetDirectories($"/proc/{pid}/task");
        int[] tids = [.. tasks.Select(path => int.Parse(Path.GetFileName(path), CultureInfo.InvariantCulture))];
        Assert.True(tids.Length > 1);
        int seen = 0;
        foreach (int tid in tids)
        {
            ProcessStatus status;
            try
            {
                status = ProcessStatus.ReadThread(pid, tid);
            }
            catch (PvmmapException e) when (e.Errno == Errno.ESRCH)
            {
                continue; // the thread ended meanwhile
            }
            Assert.Equal((pid, tid), (status.Tgid, status.Pid));
            seen++;
        }
        Assert.True(seen > 1);
    }

    [Fact]
    public void A_process_that_does_not_exist_is_ESRCH()
    {
        Assert.Equal(Errno.ESRCH, Assert.Throws<PvmmapException>(() => ProcessStatus.Read((4 << 20) + 1)).Errno);
        Assert.Equal(Errno.ESRCH, Assert.Throws<PvmmapException>(() => ProcessStatus.ReadThread(Environment.ProcessId, (4 << 20) + 1)).Errno);
    }

    [Fact]
    public void A_kernel_thread_is_told_by_its_flags_too()
    {
        // kthreadd; in a pid namespace of its own a test sees none.
        if (!File.Exists("/proc/2/comm") || File.ReadAllText("/proc/2/comm") != "kthreadd\n") Assert.Skip("pid 2 is not kthreadd here");
        Assert.True(ProcessStat.Read(2).IsKernelThread);
        Assert.True(ProcessStatus.Read(2).IsKernelThread);
        Assert.Empty(Maps.Read(2));
        Assert.False(ProcessStat.Read(Environment.ProcessId).IsKernelThread);
    }

    [Theory]
    [InlineData("4120 (cat) R 1 2 3 0 -1 2097152 1 2 3 4 5 6 7 8 9 10 11 12 98765 200", 2097152, 98765)]
    [InlineData("4120 (a) b (c) S) S 1 2 3 0 -1 4194304 1 2 3 4 5 6 7 8 9 10 11 12 5 200\n", 4194304, 5)]
    public void Flags_and_start_time_are_found_behind_any_name(string text, ulong flags, ulong startTime)
    {
        ProcessStat stat = ProcessStat.Parse(Encoding.UTF8.GetBytes(text));
        Assert.Equal((flags, startTime), (stat.Flags, stat.StartTime));
        Assert.Equal(flags == 0x200000, stat.IsKernelThread);
    }

    [Fact]
    public void A_stat_whose_name_ends_before_it_begins_is_a_FormatException() =>
        Assert.Throws<FormatException>(() => ProcessStat.Parse("4120 )cat) R 1 2 3 0 -1 2097152 1 2 3 4 5 6 7 8 9 10 11 12 98765 (200 1 2 3 4 5 6 7 8\n"u8));

    [Fact]
    public void A_damaged_stat_is_a_FormatException_or_a_stat() =>
        Gens.Damaged(Gen.Const("4120 (cat) R 1 2 3 0 -1 2097152 1 2 3 4 5 6 7 8 9 10 11 12 98765 200\n"))
            .Sample(text => Gens.ParsesOrSaysMalformed(text, t => ProcessStat.Parse(t)), iter: 2000);

    [Fact]
    public void A_later_process_does_not_start_earlier()
    {
        using Zombie zombie = Zombie.Make();
        Assert.True(ProcessStat.Read(zombie.Pid).StartTime >= ProcessStat.Read(Environment.ProcessId).StartTime);
    }
}
