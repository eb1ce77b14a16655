using System.Text;
using Pvmmap.Linux;
using Pvmmap.Snapshots;
using Xunit;

namespace Pvmmap.Tests.Snapshots;

public sealed class SnapshotDescriptionTests
{
    private static readonly SnapshotDescription s_any = new()
    {
        Identity = new SnapshotIdentity { ProcessId = 11, Name = "a \"name\"", CommandLine = ["/bin/a", ""] },
        TakenAt = new DateTimeOffset(2026, 1, 2, 3, 4, 5, TimeSpan.Zero),
        StopTime = TimeSpan.FromMicroseconds(1234),
        AuxiliaryVector = [1, 2, 3],
        Ranges = [new SnapshotRange { Range = new PageRange(0x1000, 0x3000), Permissions = "rw-p", Name = "[heap]", Flags = "rd wr", Content = SnapshotContent.Taken }],
        Threads = [new SnapshotThread { ThreadId = 11, NamespaceThreadId = 1, GeneralRegisters = new byte[] { 4, 5 }, BlockedSignals = ulong.MaxValue }],
        Descriptors = [new SnapshotDescriptor(0, "/dev/null")],
        Unreadable = [new PageRange(0x2000, 0x3000)],
        Notes = ["a note"],
    };

    [Fact]
    public void It_is_read_as_it_was_written()
    {
        using FileDescriptor file = s_any.Write([new PageRange(0x5000, 0x6000)], SnapshotDescription.MappedBytes(1));
        SnapshotDescription read = SnapshotDescription.Read(file, out int owner)!;
        Assert.Equal(Environment.ProcessId, owner);
        Assert.Equivalent(s_any, read, strict: true);
        Assert.Equal(s_any.Threads[0].GeneralRegisters.ToArray(), read.Threads[0].GeneralRegisters.ToArray());
        SnapshotDescription.Disown(file);
        Assert.NotNull(SnapshotDescription.Read(file, out owner));
        Assert.Equal(0, owner);
    }

    [Fact]
    public void Another_versions_is_refused_and_anything_else_is_none()
    {
        ulong text = SnapshotDescription.MappedBytes(0);
        using FileDescriptor file = s_any.Write([], text);
        // A field that is there no more, or not yet.
        byte[] content = new byte[64 * 1024];
        int length = (int)Files.Read(file, content, text).Value;
        string json = Encoding.UTF8.GetString(content, 0, length);
        Files.WriteAll(file, Encoding.UTF8.GetBytes(json.Replace("NamespaceThreadId", "NamespaceThreadIx", StringComparison.Ordinal)), text);
        Assert.Equal(Errno.EINVAL, Assert.Throws<PvmmapException>(() => SnapshotDescription.Read(file, out _)).Errno);

        using FileDescriptor other = Memfd.Create("other", 4096);
        Assert.Null(SnapshotDescription.Read(other, out _));
        using FileDescriptor empty = Memfd.Create("empty", 0);
        Assert.Null(SnapshotDescription.Read(empty, out _));
    }
}
