using Pvmmap.Linux;
using Xunit;

namespace Pvmmap.Tests;

/// <summary>Who makes a call: of what the user wants, what the kernel has, and whose memory it is about.</summary>
public sealed class BackendTests
{
    [Theory]
    [InlineData(null, nameof(BackendChoice.Auto))]
    [InlineData("", nameof(BackendChoice.Auto))]
    [InlineData("auto", nameof(BackendChoice.Auto))]
    [InlineData("kernel", nameof(BackendChoice.Kernel))]
    [InlineData("userspace", nameof(BackendChoice.UserSpace))]
    public void The_words(string? word, string expected) => Assert.Equal(expected, $"{Backends.Parse(word)}");

    [Theory]
    [InlineData("Kernel")]
    [InlineData("user space")]
    [InlineData("auto,kernel")]
    [InlineData(" ")]
    public void Any_other_word_is_refused_and_the_three_are_named(string word)
    {
        PvmmapException exception = Assert.Throws<PvmmapException>(() => Backends.Parse(word));
        Assert.Equal(Errno.EINVAL, exception.Errno);
        foreach (string named in (string[])[Backends.Variable, $"'{word}'", "auto", "kernel", "userspace"]) Assert.Contains(named, exception.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', exception.Message);
    }

    [Theory]
    [InlineData("auto", true, true, Backend.Kernel)]
    [InlineData("auto", true, false, Backend.UserSpace)]
    [InlineData("auto", false, true, Backend.UserSpace)]
    [InlineData("auto", false, false, Backend.UserSpace)]
    [InlineData("userspace", true, true, Backend.UserSpace)]
    [InlineData("userspace", false, false, Backend.UserSpace)]
    [InlineData("kernel", true, true, Backend.Kernel)]
    [InlineData("kernel", true, false, null)]
    [InlineData("kernel", false, true, null)]
    [InlineData("kernel", false, false, null)]
    public void The_choice(string word, bool present, bool ofTheCaller, Backend? expected)
    {
        BackendChoice choice = Backends.Parse(word);
        if (expected is { } backend)
        {
            Assert.Equal(backend, Backends.Of(choice, () => present, ofTheCaller));
            return;
        }
        PvmmapException exception = Assert.Throws<PvmmapException>(() => Backends.Of(choice, () => present, ofTheCaller));
        Assert.Equal(Errno.ENOSYS, exception.Errno);
        Assert.Contains(Backends.Variable, exception.Message, StringComparison.Ordinal);
        Assert.Contains("; ", exception.Hint, StringComparison.Ordinal);
    }

    [Fact]
    public void Who_is_not_wanted_is_not_asked_for() =>
        Assert.Equal(Backend.UserSpace, Backends.Of(BackendChoice.UserSpace, () => throw new InvalidOperationException("probed"), ofTheCaller: true));

    [Theory]
    [InlineData("auto", true, true, "kernel: ")]
    [InlineData("auto", false, true, "userspace: ")]
    [InlineData("userspace", true, true, "userspace: ")]
    [InlineData("userspace", false, true, "userspace: ")]
    [InlineData("kernel", true, true, "kernel: ")]
    [InlineData("kernel", false, false, "ENOSYS: ")]
    public void The_doctors_row(string word, bool present, bool works, string begins)
    {
        Capability row = Capabilities.BackendOfCalls(Backends.Parse(word), present);
        Assert.Equal((works, true, works), (row.Present, row.Required, row.Cure is null));
        Assert.StartsWith(begins, row.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_duplication_of_the_kernels_call_is_complete_and_answers_everything()
    {
        int pid = Environment.ProcessId;
        PageRange source = new(0x10000, 0x12000);
        Duplication duplication = new(pid, pid, source, 0x20000, moved: true, Pidfd.TryOpen(pid));
        Assert.Equal((pid, pid, 0x10000UL, 0x20000UL, 0x2000UL), (duplication.SourcePid, duplication.TargetPid, duplication.SourceAddress, duplication.Address, duplication.Length));
        Assert.True(duplication.IsMove);
        Assert.Equal((0, 0, 0), (duplication.HolderPid, duplication.GuardianPid, duplication.SentinelPid));
        Assert.Equal((0UL, 0UL, 0UL, TimeSpan.Zero), (duplication.BytesTotal, duplication.BytesToGo, duplication.FaultsServed, duplication.Age));
        Assert.Equal(DuplicationState.Complete, duplication.State);
        Assert.True(duplication.Wait(TimeSpan.Zero));
        duplication.Finish();
        Assert.True(duplication.Completion.IsCompletedSuccessfully);
        Assert.Equal(DuplicationState.Complete, await duplication.Completion);
        duplication.Dispose();
        duplication.Dispose();
    }
}
