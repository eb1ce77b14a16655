using System.Buffers.Binary;
using Pvmmap.Procfs;
using Pvmmap.Target;
using Xunit;

namespace Pvmmap.Tests;

/// <summary>What is read and foreseen for a pair of processes; whether it comes true is shown by the conformance tests.</summary>
public sealed class PrognosisTests
{
    [Fact]
    public void Within_the_caller_everything_is_looked_at_once()
    {
        Prognosis prognosis = Prognosis.Of(Environment.ProcessId, Environment.ProcessId);
        Assert.NotEqual(Outlook.Refused, prognosis.Outlook);
        Assert.Equal(Errno.None, prognosis.Errno);
        Assert.Equal(prognosis.Checks.Count, prognosis.Checks.Select(check => check.Name).Distinct().Count());
        Assert.All(prognosis.Checks, check => Assert.NotEmpty(check.Detail));
    }

    [Theory]
    [InlineData(2, Errno.EINVAL, "kernel thread")]
    [InlineData(4194305, Errno.ESRCH, "no such process")] // above the largest pid_max
    public void What_cannot_be_found_is_refused_as_by_the_call(int pid, Errno errno, string reason)
    {
        foreach (Prognosis prognosis in (Prognosis[])[Prognosis.Of(pid, Environment.ProcessId), Prognosis.Of(Environment.ProcessId, pid), Prognosis.Of(pid, pid)])
        {
            Assert.Equal((Outlook.Refused, errno), (prognosis.Outlook, prognosis.Errno));
            Assert.Contains(reason, prognosis.Reason, StringComparison.Ordinal);
        }
        var call = Assert.Throws<PvmmapException>(() => ProcessVm.MmapBetween(pid, Environment.ProcessId, 0x10000, 1));
        Assert.Equal(errno, call.Errno);
    }

    [Theory]
    [InlineData(true, true, false, false, null)]
    [InlineData(true, false, true, false, null)]
    [InlineData(true, false, false, true, null)]
    [InlineData(true, false, false, false, "user-mode faults")]
    [InlineData(false, true, true, true, "the caller lacks CAP_SYS_PTRACE")]
    [InlineData(false, false, false, false, "the caller lacks CAP_SYS_PTRACE")]
    public void The_userfaultfd_of_a_target(bool caller, bool target, bool sysctl, bool device, string? expected)
    {
        string? restriction = TargetUserfaultfd.Foresee(caller, target, sysctl, device);
        if (expected is null) Assert.Null(restriction);
        else Assert.Contains(expected, restriction, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Limit  Soft Limit\nMax address space         unlimited            unlimited            bytes     \n", ulong.MaxValue)]
    [InlineData("Max data size   1   2   bytes\nMax address space         1048576            unlimited            bytes     \n", 1048576ul)]
    public void The_limit_of_the_address_space(string text, ulong expected) => Assert.Equal(expected, Prognosis.ParseAddressSpaceLimit(System.Text.Encoding.UTF8.GetBytes(text)));

    [Fact]
    public void Limits_without_that_line_are_not_the_kernels() => Assert.Throws<FormatException>(() => Prognosis.ParseAddressSpaceLimit("Max data size 1 2 bytes"u8));

    [Theory]
    [InlineData("user:[4026531837]", 4026531837ul)]
    [InlineData("mnt:[1]", 1ul)]
    [InlineData("user:[]", null)]
    [InlineData("/", null)]
    [InlineData("user:[12", null)]
    public void The_number_of_a_namespace(string link, ulong? expected) => Assert.Equal(expected, ProcessPlace.Parse(link));

    [Fact]
    public void Own_place_is_seen()
    {
        ProcessPlace place = ProcessPlace.Read(Environment.ProcessId);
        Assert.NotNull(place.User);
        Assert.NotNull(place.Pid);
        Assert.NotNull(place.Mount);
        Assert.NotNull(place.Root);
    }

    [Fact]
    public void Programs_of_32_bits_are_told_by_their_auxiliary_vector()
    {
        Assert.True(AuxiliaryVector.IsOf64Bits(Environment.ProcessId));
        byte[] pair = new byte[16];
        BinaryPrimitives.WriteUInt32LittleEndian(pair, 32); // AT_SYSINFO
        BinaryPrimitives.WriteUInt32LittleEndian(pair.AsSpan(4), 0xf7f865e0);
        Assert.False(AuxiliaryVector.IsOf64Bits(pair));
        Assert.Null(AuxiliaryVector.IsOf64Bits([]));
    }
}
