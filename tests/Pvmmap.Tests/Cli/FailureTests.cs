using Pvmmap.Cli;
using Xunit;

namespace Pvmmap.Tests.Cli;

public sealed class FailureTests
{
    [Fact]
    public void A_hint_of_the_library_is_the_advice() =>
        Assert.Equal("stop the source (process 12): EBUSY: detach gdb first",
            Failure.Describe(new PvmmapException(Errno.EBUSY, "stop the source", 12, hint: "detach gdb first")));

    [Theory]
    [InlineData(Errno.EPERM)]
    [InlineData(Errno.ESRCH)]
    [InlineData(Errno.EBUSY)]
    [InlineData(Errno.EFAULT)]
    [InlineData(Errno.EEXIST)]
    [InlineData(Errno.ENOMEM)]
    [InlineData(Errno.EAGAIN)]
    [InlineData(Errno.EOPNOTSUPP)]
    [InlineData(Errno.ENOSYS)]
    public void Without_a_hint_the_errno_brings_its_own_advice(Errno errno)
    {
        string plain = new PvmmapException(errno, "do it", 12).Message, described = Failure.Describe(new PvmmapException(errno, "do it", 12));
        Assert.StartsWith(plain + ": ", described, StringComparison.Ordinal);
    }

    [Fact]
    public void Surprises_are_named_without_a_stack_trace() =>
        Assert.Equal("unexpected InvalidOperationException: no", Failure.Describe(new InvalidOperationException("no")));
}
