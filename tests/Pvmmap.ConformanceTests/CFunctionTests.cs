using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>libprocess_vm_mmap.so and process_vm_mmap.h as a C program uses them.</summary>
public sealed class CFunctionTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 16 * MiB;

    [Fact]
    [Trait(CFunctionWays.Trait, CFunctionWays.Value)]
    public void The_contracts_example_compiles_and_works()
    {
        string artifacts = Path.Combine(Theatre.RepositoryRoot, "artifacts");
        Assert.True(File.Exists(Path.Combine(artifacts, "include/process_vm_mmap.h")), "process_vm_mmap.h is not there: run ./build first");
        Theatre.Compile(
            "contract_example", $"-I{artifacts}/include", $"-L{artifacts}/lib", $"-Wl,-rpath,{artifacts}/lib", "-lprocess_vm_mmap");
        for (int round = 0; round < 3; round++)
        {
            (int code, string output) = Theatre.Run(Theatre.Program("contract_example"));
            Assert.True(code == 0 && output.Trim() == "ok", $"exit code {code}: {output}");
        }
    }

    [Fact]
    [Trait(CFunctionWays.Trait, CFunctionWays.Value)]
    public void Pull_push_and_release()
    {
        Puppet caller = NewPuppet().LoadLibrary(), other = NewPuppet();
        ulong theirs = other.MapFilled(Length, 1), own = caller.MapFilled(Length, 2), place = other.Map(Length);
        (long pulled, Errno errno) = caller.Call(other.Pid, theirs + 5, Length - 5);
        Assert.Equal(Errno.None, errno);
        Assert.Equal(0L, pulled % (long)Page);
        caller.AssertContent((ulong)pulled, Length, 1);
        Assert.Equal(((long)place, Errno.None), caller.CallAndRelease(-other.Pid, own, Length, place, MmapFlags.Fixed));
        other.AssertContent(place, Length, 2);
    }

    [Fact]
    [Trait(CFunctionWays.Trait, CFunctionWays.Value)]
    public void The_callers_runtime_signals_and_exit_are_its_own()
    {
        Puppet caller = NewPuppet().LoadLibrary(), other = NewPuppet();
        ulong own = caller.MapFilled(MiB, 2);
        Assert.Equal(Errno.None, caller.Call(-other.Pid, own, MiB).Errno);
        caller.Post($"exit 42");
        Assert.Equal(42, Theatre.Nursery.WaitForEnd(caller.Pid));
    }

    [Fact]
    [Trait(CFunctionWays.Trait, CFunctionWays.Value)]
    public async Task From_two_processes_at_once_on_the_same_target()
    {
        // each call lands, or finds the other's tracer there and says EBUSY; content and target stay whole
        Puppet target = NewPuppet();
        Puppet[] callers = [NewPuppet().LoadLibrary(), NewPuppet().LoadLibrary()];
        ulong[] own = [callers[0].MapFilled(MiB, 1), callers[1].MapFilled(MiB, 2)], place = [target.Map(MiB), target.Map(MiB)];
        int[] landed = new int[2];
        await Task.WhenAll(Enumerable.Range(0, 2).Select(i => Task.Run(() =>
        {
            for (int round = 0; round < 50; round++)
            {
                (long result, Errno errno) = callers[i].Call(-target.Pid, own[i], MiB, place[i], MmapFlags.Fixed);
                Assert.True(result == (long)place[i] || (result == -1 && errno == Errno.EBUSY), $"{result}, {errno}");
                if (result != -1) landed[i]++;
            }
        })));
        Assert.All(landed, count => Assert.True(count > 0));
        target.AssertContent(place[0], MiB, 1);
        target.AssertContent(place[1], MiB, 2);
    }

    [Fact]
    public void A_debugger_comes_after_the_call()
    {
        // a call leaves the process free for a debugger, and a debugger that goes leaves it free for a call
        Machine.RequireProgram("gdb");
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(MiB, 1);
        MmapResult first = Call(source, target, at, MiB, flags: MmapFlags.Lazy);
        foreach (Puppet puppet in (Puppet[])[source, target])
        {
            (int code, string output) = Theatre.Run("gdb", "-p", $"{puppet.Pid}", "-batch", "-nx", "-ex", "info threads");
            Assert.True(code == 0 && output.Contains("puppet", StringComparison.Ordinal), output);
        }
        MmapResult second = Call(source, target, at, MiB);
        target.AssertContent(first.Address, MiB, 1);
        target.AssertContent(second.Address, MiB, 1);
    }
}
