using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>The rule of process_vm_readv: who may ptrace-attach may call, nobody else. And a caller without privileges gets its pages too.</summary>
public sealed class UnprivilegedTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 8 * MiB;

    private const int Nobody = 65534, Somebody = 65533;

    [Fact]
    public void Of_equal_uid_pull_and_push()
    {
        Puppet caller = NewPuppetOf(Nobody, load: true), other = NewPuppetOf(Nobody);
        Assert.Equal(65534UL, ProcessStatus.Figure(caller.Pid, "Uid"));
        ulong theirs = other.MapFilled(Length, 1), own = caller.MapFilled(Length, 2);
        ProcessRecord before = ProcessRecord.TakeAtRest(other.Pid);
        (long pulled, Errno pullErrno) = caller.Call(other.Pid, theirs, Length);
        Assert.Equal(Errno.None, pullErrno);
        before.AssertUnchanged();
        caller.AssertContent((ulong)pulled, Length, 1);
        (long pushed, Errno pushErrno) = caller.Call(-other.Pid, own, Length);
        Assert.Equal(Errno.None, pushErrno);
        before.AssertUnchanged(new PageRange((ulong)pushed, (ulong)pushed + Length));
        other.AssertContent((ulong)pushed, Length, 2);
        other.Fill((ulong)pushed, MiB, 3);
        caller.AssertContent(own, Length, 2);
        caller.Kill();
        other.AssertContent((ulong)pushed + MiB, Length - MiB, 2, MiB / Page);
    }

    [Fact]
    public void Replacing_and_forking_without_privileges()
    {
        Puppet caller = NewPuppetOf(Nobody, load: true), other = NewPuppetOf(Nobody);
        ulong own = caller.MapFilled(Length, 2), place = other.MapFilled(Length, 1);
        Assert.Equal(((long)place, Errno.None), caller.Call(-other.Pid, own, Length, place, MmapFlags.Fixed));
        Puppet child = ForkOf(other);
        child.AssertContent(place, Length, 2);
        other.AssertContent(place, Length, 2);
    }

    [Fact]
    public void Of_another_uid_EPERM()
    {
        Puppet caller = NewPuppetOf(Nobody, load: true), root = NewPuppet(), other = NewPuppetOf(Somebody);
        ulong own = caller.MapFilled(MiB, 2);
        foreach (Puppet remote in (Puppet[])[root, other])
        {
            ulong theirs = remote.MapFilled(MiB, 1);
            ProcessRecord before = ProcessRecord.TakeAtRest(remote.Pid);
            Assert.Equal((-1L, Errno.EPERM), caller.Call(remote.Pid, theirs, MiB));
            Assert.Equal((-1L, Errno.EPERM), caller.Call(-remote.Pid, own, MiB));
            before.AssertUnchanged();
        }
    }

    [Fact]
    public void A_process_that_is_not_dumpable_EPERM()
    {
        Puppet caller = NewPuppetOf(Nobody, load: true), other = NewPuppetOf(Nobody);
        ulong theirs = other.MapFilled(MiB, 1);
        const long PR_SET_DUMPABLE = 4;
        other.Must(other.Syscall(Sys.prctl, PR_SET_DUMPABLE, 0), "prctl");
        Assert.Equal((-1L, Errno.EPERM), caller.Call(other.Pid, theirs, MiB));
    }

    [Fact]
    public void Permission_is_checked_before_the_source_range()
    {
        Puppet caller = NewPuppetOf(Nobody, load: true), root = NewPuppet();
        Assert.Equal((-1L, Errno.EPERM), caller.Call(root.Pid, root.FreeRange(MiB), MiB));
        Assert.Equal((-1L, Errno.EINVAL), caller.Call(root.Pid, root.FreeRange(MiB), 0));
    }

    [Fact]
    public void RLIMIT_NPROC_of_the_source_is_EAGAIN()
    {
        Puppet source = NewPuppetOf(Nobody), target = NewPuppet();
        ulong at = source.MapFilled(MiB, 1);
        source.Limit(Rlimit.Tasks, 0);
        ProcessRecord before = ProcessRecord.TakeAtRest(source.Pid);
        Refused(Errno.EAGAIN, source, target, at, MiB);
        before.AssertUnchanged();
    }

    [Fact]
    public void A_privileged_caller_between_unprivileged_processes()
    {
        Puppet source = NewPuppetOf(Nobody), target = NewPuppetOf(Somebody);
        ulong at = source.MapFilled(Length, 1);
        ProcessRecord sourceBefore = ProcessRecord.TakeAtRest(source.Pid), targetBefore = ProcessRecord.TakeAtRest(target.Pid);
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Lazy);
        sourceBefore.AssertUnchanged();
        targetBefore.AssertUnchanged(new PageRange(result.Address, result.Address + Length));
        target.AssertContent(result.Address, Length, 1);
    }
}
