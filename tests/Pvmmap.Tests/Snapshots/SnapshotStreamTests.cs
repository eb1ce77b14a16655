using Pvmmap.Snapshots;
using Xunit;

namespace Pvmmap.Tests.Snapshots;

/// <summary>Where a snapshot's stream can be: never before its range, where memory of others lies.</summary>
public sealed class SnapshotStreamTests
{
    private const long Length = 100;

    [Fact]
    public void It_has_no_places_before_its_beginning()
    {
        using Stream stream = NewStream();
        stream.Position = 7;
        Assert.Throws<ArgumentOutOfRangeException>(() => stream.Position = -1);
        Assert.Throws<IOException>(() => stream.Seek(-1, SeekOrigin.Begin));
        Assert.Throws<IOException>(() => stream.Seek(-8, SeekOrigin.Current));
        Assert.Throws<IOException>(() => stream.Seek(-Length - 1, SeekOrigin.End));
        Assert.Throws<IOException>(() => stream.Seek(long.MaxValue, SeekOrigin.Current));
        Assert.Throws<ArgumentException>(() => stream.Seek(0, (SeekOrigin)3));
        Assert.Equal(7, stream.Position);
    }

    [Fact]
    public void It_goes_where_it_is_told_and_behind_its_end_there_is_nothing()
    {
        using Stream stream = NewStream();
        Assert.Equal(0, stream.Seek(-Length, SeekOrigin.End));
        Assert.Equal(20, stream.Seek(20, SeekOrigin.Current));
        Assert.Equal(15, stream.Seek(-5, SeekOrigin.Current));
        Assert.Equal(Length + 5, stream.Seek(5, SeekOrigin.End));
        Assert.Equal(0, stream.Read(new byte[8]));
        Assert.Equal(Length, stream.Length);
    }

    // What lies at an address is not looked at here.
    private static SnapshotStream NewStream() => new(null!, 0x7f0000000000, Length);
}
