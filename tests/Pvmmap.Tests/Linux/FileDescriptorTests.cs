using Pvmmap.Linux;
using Xunit;

namespace Pvmmap.Tests.Linux;

public sealed class FileDescriptorTests
{
    /// <summary>By then it may be that of another thread's descriptor: of a pidfd, which is sent SIGKILL.</summary>
    [Fact]
    public void The_number_of_one_that_is_closed_is_not_told()
    {
        FileDescriptor pidfd = Pidfd.Open(Environment.ProcessId);
        Assert.True(pidfd.Number >= 0);
        pidfd.Dispose();
        Assert.Throws<ObjectDisposedException>(() => pidfd.Number);
        Assert.Throws<ObjectDisposedException>(() => Pidfd.Kill(pidfd));
        pidfd.Dispose();
    }
}
