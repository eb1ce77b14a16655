using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>The rule of process_vm_readv: who may ptrace-attach may call, nobody else. And a caller without privileges gets its pages too.</summary>
public sealed class UnprivilegedTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 8 * MiB;

    private static readonly string[] s_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    private static readonly string[] s_somebody = ["setpriv", "--reuid=65533", "--regid=65533", "--clear-groups"];

    [Fact]
    public void Of_equal_uid_pull_and_push()
    {
        Puppet caller = Unprivileged(s_nobody, load: true), other = Unprivileged(s_nobody);
        Assert.Equal(65534UL, ProcessStatus.Figure(caller.Pid, "Uid"));
        ulong theirs = other.MapFilled(Length, 1), own = caller.MapFilled(Length, 2);
        ProcessSnapshot before = ProcessSnapshot.TakeAtRest(other.Pid);
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
        Puppet caller = Unprivileged(s_nobody, load: true), other = Unprivileged(s_nobody);
        ulong own = caller.MapFilled(Length, 2), place = other.MapFilled(Length, 1);
        Assert.Equal(((long)place, Errno.None), caller.Call(-other.Pid, own, Length, place, MmapFlags.Fixed));
        Puppet child = ForkOf(other);
        child.AssertContent(place, Length, 2);
        other.AssertContent(place, Length, 2);
    }

    [Fact]
    public void Of_another_uid_EPERM()
    {
        Puppet caller = Unprivileged(s_nobody, load: true), root = NewPuppet(), other = Unprivileged(s_somebody);
        ulong own = caller.MapFilled(MiB, 2);
        foreach (Puppet remote in (Puppet[])[root, other])
        {
            ulong theirs = remote.MapFilled(MiB, 1);
            ProcessSnapshot before = ProcessSnapshot.TakeAtRest(remote.Pid);
            Assert.Equal((-1L, Errno.EPERM), caller.Call(remote.Pid, theirs, MiB));
            Assert.Equal((-1L, Errno.EPERM), caller.Call(-remote.Pid, own, MiB));
            before.AssertUnchanged();
        }
    }

    [Fact]
    public void A_process_that_is_not_dumpable_EPERM()
    {
        Puppet caller = Unprivileged(s_nobody, load: true), other = Unprivileged(s_nobody);
        ulong theirs = other.MapFilled(MiB, 1);
        const long PR_SET_DUMPABLE = 4;
        other.Must(other.Syscall(Sys.prctl, PR_SET_DUMPABLE, 0), "prctl");
        Assert.Equal((-1L, Errno.EPERM), caller.Call(other.Pid, theirs, MiB));
    }

    [Fact]
    public void Permission_is_checked_before_the_source_range()
    {
        Puppet caller = Unprivileged(s_nobody, load: true), root = NewPuppet();
        Assert.Equal((-1L, Errno.EPERM), caller.Call(root.Pid, root.FreeRange(MiB), MiB));
        Assert.Equal((-1L, Errno.EINVAL), caller.Call(root.Pid, root.FreeRange(MiB), 0));
    }

    [Fact]
    public void RLIMIT_NPROC_of_the_source_is_EAGAIN()
    {
        Puppet source = Unprivileged(s_nobody), target = NewPuppet();
        ulong at = source.MapFilled(MiB, 1);
        source.Limit(Rlimit.Tasks, 0);
        ProcessSnapshot before = ProcessSnapshot.TakeAtRest(source.Pid);
        Refused(Errno.EAGAIN, source, target, at, MiB);
        before.AssertUnchanged();
    }

    [Fact]
    public void A_privileged_caller_between_unprivileged_processes()
    {
        Puppet source = Unprivileged(s_nobody), target = Unprivileged(s_somebody);
        ulong at = source.MapFilled(Length, 1);
        ProcessSnapshot sourceBefore = ProcessSnapshot.TakeAtRest(source.Pid), targetBefore = ProcessSnapshot.TakeAtRest(target.Pid);
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Lazy);
        sourceBefore.AssertUnchanged();
        targetBefore.AssertUnchanged(new PageRange(result.Address, result.Address + Length));
        target.AssertContent(result.Address, Length, 1);
    }

    private Puppet Unprivileged(string[] command, bool load = false)
    {
        Machine.RequireRoot();
        Machine.RequireProgram("setpriv");
        Puppet puppet = NewPuppet(command);
        return load ? puppet.LoadLibrary(LibraryForOthers()) : puppet;
    }
}
