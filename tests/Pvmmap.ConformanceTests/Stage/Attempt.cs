namespace Pvmmap.ConformanceTests.Stage;

/// <summary>
/// A call between two puppets that may be refused: it either succeeds, with the right content, or fails with the errno it may fail with and leaves
/// both processes as they were. After a refusal it can be made again.
/// </summary>
public sealed class Attempt
{
    private const ulong Page = PageRange.PageSize, SourceSeed = 1, PlaceSeed = 2;

    private readonly Func<Attempt, (ulong Address, Errno Errno)> _call;
    private readonly MmapFlags _more;

    /// <param name="mode">What is to become of the source range.</param>
    /// <param name="way">Which of the two is the caller, if any.</param>
    /// <param name="source">With the library loaded if it is the caller.</param>
    /// <param name="target">With the library loaded if it is the caller.</param>
    /// <param name="length">Bytes, a multiple of the page size.</param>
    /// <param name="fix">The call replaces memory of the target's.</param>
    /// <param name="call">Makes the call.</param>
    /// <param name="more">Flags besides.</param>
    internal Attempt(
        Mode mode, Way way, Puppet source, Puppet target, ulong length, bool fix, Func<Attempt, (ulong Address, Errno Errno)> call, MmapFlags more = MmapFlags.None)
    {
        (Mode, Way, Source, Target, Length, _more, _call) = (mode, way, source, target, length, more, call);
        // amid larger mappings, which the call may have to split
        At = source.MapFilled(length + 2 * Page, SourceSeed) + Page;
        if (fix) Place = target.MapFilled(length + 2 * Page, PlaceSeed) + Page;
    }

    public Mode Mode { get; }

    public Way Way { get; }

    public Puppet Source { get; }

    public Puppet Target { get; }

    public ulong At { get; }

    public ulong Length { get; }

    /// <summary>Where to with FIXED; 0 without.</summary>
    public ulong Place { get; }

    public MmapFlags Flags => Mode.Flag() | _more | (Place != 0 ? MmapFlags.Fixed : MmapFlags.None);

    /// <summary>Where the range was put; 0 as long as the call has not succeeded.</summary>
    public ulong Result { get; private set; }

    private Puppet? Caller => Way switch { Way.Pull => Target, Way.Push => Source, _ => null };

    /// <summary>Makes the call.</summary>
    /// <returns><see cref="Errno.None"/> or <paramref name="refusal"/>; any other errno fails the test.</returns>
    public Errno Make(Errno refusal)
    {
        ProcessRecord source = Snapshot(Source), target = Snapshot(Target);
        (Result, Errno errno) = _call(this);
        if (errno == Errno.None) AssertDone(source, target);
        else
        {
            Assert.True(errno == refusal, $"expected {refusal} or none, got {errno}");
            AssertAsBefore(source, target);
        }
        return errno;
    }

    private ProcessRecord Snapshot(Puppet puppet) =>
        puppet == Caller ? ProcessRecord.TakeOfCaller(puppet.Pid) : ProcessRecord.TakeAtRest(puppet.Pid);

    private void AssertAsBefore(ProcessRecord source, ProcessRecord target)
    {
        source.AssertUnchanged();
        target.AssertUnchanged();
        Source.AssertContent(At - Page, Length + 2 * Page, SourceSeed);
        if (Place != 0) Target.AssertContent(Place - Page, Length + 2 * Page, PlaceSeed);
    }

    private void AssertDone(ProcessRecord source, ProcessRecord target)
    {
        Target.AssertContent(Result, Length, SourceSeed, firstPage: 1);
        target.AssertUnchanged(new PageRange(Result, Result + Length));
        if (Place != 0) AssertNeighbours(Target, Place, PlaceSeed);
        AssertNeighbours(Source, At, SourceSeed);
        if (Mode == Mode.Copy)
        {
            source.AssertUnchanged();
            Source.AssertContent(At, Length, SourceSeed, firstPage: 1);
        }
        else
        {
            source.AssertUnchanged(new PageRange(At, At + Length));
            Source.AssertTaken(At, Length, SourceSeed, firstPage: 1);
        }
    }

    private void AssertNeighbours(Puppet puppet, ulong start, ulong seed)
    {
        puppet.AssertContent(start - Page, Page, seed);
        puppet.AssertContent(start + Length, Page, seed, firstPage: Length / Page + 1);
    }
}
