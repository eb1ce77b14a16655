using System.Text;
using Microsoft.Win32.SafeHandles;
using Pvmmap.ConformanceTests.Stage;
using Pvmmap.ConformanceTests.Survival;

namespace Pvmmap.ConformanceTests;

/// <summary>Two calls at the same instant, one in each direction between the same two processes: neither waits for the other for ever.</summary>
public sealed class MutualTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = MiB;

    // A call that waits in vain for the other one's tracer waits for a minute, if it can look at all.
    private const int Rounds = 60, Patience = 30;

    public static TheoryData<Way, MmapFlags> WaysAndFlags =>
        new MatrixTheoryData<Way, MmapFlags>([Way.Pull, Way.Push, Way.ThirdParty], [MmapFlags.None, MmapFlags.Move, MmapFlags.Populate | MmapFlags.Move]);

    [Theory]
    [MemberData(nameof(WaysAndFlags))]
    public async Task Each_into_the_other(Way way, MmapFlags flags)
    {
        Puppet a = NewPuppet(), b = NewPuppet();
        if (way != Way.ThirdParty)
        {
            a.LoadLibrary();
            b.LoadLibrary();
        }
        ulong inA = a.MapFilled(Length, 1), inB = b.MapFilled(Length, 2);
        for (int round = 0; round < Rounds; round++)
        {
            ulong seed = (ulong)round + 1;
            using Barrier start = new(2);
            Task<ulong> there = Begin(a, b, inA, start), back = Begin(b, a, inB, start);
            Task both = Task.WhenAll(there, back);
            Task first = await Task.WhenAny(both, Task.Delay(Stage.Patience.Of(Patience), TestContext.Current.CancellationToken));
            Assert.True(first == both, $"in round {round} the calls are not over after {Patience} s");
            (ulong fromA, ulong fromB) = (await there, await back);
            b.AssertContent(fromA, Length, seed);
            a.AssertContent(fromB, Length, seed + 1);
            if (!flags.HasFlag(MmapFlags.Move))
            {
                a.Unmap(inA, Length);
                b.Unmap(inB, Length);
            }
            (inA, inB) = (fromB, fromA);
            a.Fill(inA, Length, seed + 1);
            b.Fill(inB, Length, seed + 2);
        }

        Task<ulong> Begin(Puppet source, Puppet target, ulong address, Barrier start) => Task.Factory.StartNew(
            () =>
            {
                start.SignalAndWait();
                if (way == Way.ThirdParty) return Call(source, target, address, Length, flags: flags).Address;
                (long result, Errno errno) = way == Way.Pull ? target.Call(source.Pid, address, Length, 0, flags) : source.Call(-target.Pid, address, Length, 0, flags);
                Assert.Equal(Errno.None, errno);
                return (ulong)result;
            },
            CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
    }

    /// <summary>The lock is no more than a courtesy: who keeps one, whatever for, keeps nobody out.</summary>
    [Fact]
    public void A_lock_that_somebody_keeps_only_delays_the_call()
    {
        const int LOCK_EX = 2;
        Puppet source = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        using SafeFileHandle process = Open(source.Pid);
        Assert.Equal(0, Libc.Syscall(Sys.flock, process.DangerousGetHandle(), LOCK_EX));
        MmapResult result = Call(source, Own, at, Length);
        Own.AssertContent(result.Address, Length, 1);
        AssertCompletes(result);
    }

    /// <summary>Not even by what it has started, which has its descriptors: a move's holder shares the memory of the caller, whose range it is.</summary>
    [Theory]
    [InlineData(nameof(CallStep.TargetStopped), MmapFlags.None)]
    [InlineData(nameof(CallStep.TargetStopped), MmapFlags.Move)]
    [InlineData(nameof(CallStep.RegionRegistered), MmapFlags.Move)]
    public void A_caller_that_is_killed_keeps_no_lock(string step, MmapFlags flags)
    {
        const int LOCK_EX = 2, LOCK_NB = 4;
        Puppet target = NewPuppet();
        using SteppedCaller caller = new(Theatre, new SteppedCall(0, target.Pid, Sitter.Address, Sitter.Pages, step) { Flags = flags });
        caller.Say("call");
        Assert.NotNull(caller.Hear("at"));
        using SafeFileHandle process = Open(target.Pid);
        Assert.False(IsFree());
        Libc.Kill(caller.Pid, Libc.SIGKILL);
        Eventually.Holds(IsFree, "nobody holds the lock");

        bool IsFree() => Libc.Syscall(Sys.flock, process.DangerousGetHandle(), LOCK_EX | LOCK_NB) == 0;
    }

    private static unsafe SafeFileHandle Open(int pid)
    {
        const long AT_FDCWD = -100, O_CLOEXEC = 0x80000;
        fixed (byte* path = Encoding.ASCII.GetBytes($"/proc/{pid}\0"))
        {
            long opened = Libc.Syscall(Sys.openat, AT_FDCWD, (long)path, O_CLOEXEC);
            Assert.True(opened >= 0);
            return new SafeFileHandle((nint)opened, ownsHandle: true);
        }
    }
}
