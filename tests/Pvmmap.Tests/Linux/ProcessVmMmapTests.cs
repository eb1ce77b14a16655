using System.Globalization;
using System.Text.RegularExpressions;
using Pvmmap.Linux;
using Xunit;

namespace Pvmmap.Tests.Linux;

/// <summary>Whether a kernel has the system call is told by answers that no other call gives.</summary>
public sealed class ProcessVmMmapTests
{
    private const long Page = 4096, Known = 0x703;

    [Fact]
    public void A_kernel_that_answers_as_the_contract_says_has_it() => Assert.True(ProcessVmMmap.Probe(Ours));

    [Fact]
    public void Each_answer_is_needed()
    {
        int probes = 0;
        Assert.True(ProcessVmMmap.Probe((a, b, c, d, e) =>
        {
            probes++;
            return Ours(a, b, c, d, e);
        }));
        for (int wrong = 0; wrong < probes; wrong++)
        {
            int asked = 0;
            Assert.False(ProcessVmMmap.Probe((a, b, c, d, e) => asked++ == wrong ? Failed(Errno.EBADF) : Ours(a, b, c, d, e)), $"probe {wrong}");
            Assert.Equal(wrong + 1, asked);
        }
    }

    [Fact]
    public void Other_calls_behind_the_number_are_told_apart()
    {
        Assert.False(ProcessVmMmap.Probe((_, _, _, _, _) => Failed(Errno.ENOSYS)), "none");
        Assert.False(ProcessVmMmap.Probe((_, _, _, _, _) => Failed(Errno.EPERM)), "a seccomp filter");
        Assert.False(ProcessVmMmap.Probe((_, _, _, _, _) => Failed(Errno.EINVAL)), "one that takes no such arguments");
        Assert.False(ProcessVmMmap.Probe((_, _, _, _, _) => new SyscallResult(0)), "one that takes everything");
        Assert.False(ProcessVmMmap.Probe((fd, _, _, _, flags) => Failed(flags == ~0 ? Errno.EINVAL : Errno.EBADF)), "one of a descriptor");
        Assert.False(ProcessVmMmap.Probe((pid, _, _, _, flags) => Failed(flags == ~0 || pid <= 0 ? Errno.EINVAL : Errno.ESRCH)), "one of a process");
        Assert.False(ProcessVmMmap.Probe((pid, _, _, _, flags) => Failed(flags == ~0 || pid == 0 ? Errno.EINVAL : Errno.ESRCH)), "one of a process or its group");
        Assert.False(ProcessVmMmap.Probe((pid, _, _, _, flags) => Failed(flags != 0 || pid == 0 ? Errno.EINVAL : Errno.ESRCH)), "the same without flags");
    }

    [Fact]
    public void No_probe_names_a_process_or_memory_that_can_be_there()
    {
        ProcessVmMmap.Probe((pid, source, length, destination, flags) =>
        {
            // largest pid_max: 4194304; nothing is mapped by anybody at the second page (vm.mmap_min_addr)
            Assert.True((pid == 0 && flags == ~0) || Math.Abs(pid) > 4194304);
            Assert.True(source <= Page && length <= Page && destination <= 1);
            return Ours(pid, source, length, destination, flags);
        });
    }

    [Fact]
    public void The_number_is_the_one_that_the_kernels_hooks_give_it()
    {
        Match line = Regex.Match(File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "kernel/hook")), @"n(\d+)\\tcommon\\tprocess_vm_mmap\\t");
        Assert.True(line.Success, "kernel/hook has no line for the table of system calls");
        Assert.Equal(X64SystemCalls.SYS_process_vm_mmap, int.Parse(line.Groups[1].Value, CultureInfo.InvariantCulture));
    }

    // Arguments, then the process: as far as probes get.
    private static SyscallResult Ours(long pid, long source, long length, long destination, long flags)
    {
        const long lazyAndPopulate = 0x600, exact = 3;
        if ((flags & ~Known) != 0 || (flags & lazyAndPopulate) == lazyAndPopulate || pid == 0 || length == 0 || source < Page) return Failed(Errno.EINVAL);
        if ((flags & exact) != 0 && destination % Page != 0) return Failed(Errno.EINVAL);
        return Failed(Errno.ESRCH);
    }

    private static SyscallResult Failed(Errno errno) => new(-(long)errno);
}
