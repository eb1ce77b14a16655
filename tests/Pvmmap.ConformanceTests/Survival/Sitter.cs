using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests.Survival;

/// <summary>
/// A puppet to be captured, with all that a capture meddles with: threads in system calls and at work, memory that advice withholds from a fork, shared memory. It
/// knows how it was, and alone with what is made of it has a <see cref="Namesake"/>.
/// </summary>
internal sealed class Sitter : IDisposable
{
    /// <summary>A range of <see cref="Pages"/> pages with the pattern of seed 1.</summary>
    public const ulong Address = 0x2000_0000_0000, Pages = 192;

    private const ulong MiB = 1 << 20, Page = PageRange.PageSize;
    private const int Writers = 1, Idlers = 5, StraySeconds = 5;

    private readonly Namesake _mark;
    private readonly ProcessRecord _before;
    private readonly string _awake;
    private readonly HashSet<PageRange> _maps;
    private readonly List<(ulong Address, ulong Length, ulong Seed)> _blocks = [];

    /// <param name="theatre">Where it plays.</param>
    /// <param name="bulk">Bytes of memory with content besides.</param>
    public Sitter(Theatre theatre, ulong bulk = 0)
    {
        Machine.RequireRoot();
        Machine.RequireProgram("unshare");
        Machine.RequireProgram("nsenter");
        Puppet = new Puppet(theatre, theatre.Start("unshare", "--uts", theatre.Program("puppet"), theatre.Door), fromNursery: true);
        _mark = new Namesake(Puppet.Pid);
        Puppet.Map(Pages * Page, Prot.ReadWrite, MapFlags.FixedNoReplace, Address);
        Fill(Address, Pages * Page);
        // so large that the advice is lifted for the fork, and so small that the content is copied
        foreach ((ulong length, Madv advice) in ((ulong, Madv)[])[(2 * MiB, Madv.DontFork), (2 * MiB, Madv.WipeOnFork), (16 * Page, Madv.DontFork), (16 * Page, Madv.WipeOnFork)])
        {
            ulong at = Puppet.Map(length);
            Puppet.Must(Puppet.Advise(at, length, advice), "madvise");
            Fill(at, length);
        }
        Fill(Puppet.Map(2 * MiB, flags: MapFlags.Shared), 2 * MiB);
        if (bulk != 0) Fill(Puppet.Map(bulk), bulk);
        Written = Puppet.Map(WrittenLength);
        Puppet.StartIdlers(Idlers);
        Puppet.StartWriters(Writers, Written, WrittenLength);
        // a writer that has been round once is in that list, too
        Eventually.Equals(Writers, () => Puppet.Awake().Split(' ', StringSplitOptions.RemoveEmptyEntries).Length, "the writer writes");
        _awake = Puppet.Awake();
        Eventually.Equals(1 + Idlers, Asleep, "all but the writer are in their system calls");
        _before = ProcessRecord.Take(Puppet.Pid);
        _maps = [.. Smaps.ReadMaps(Pid).Select(vma => vma.Range)];
    }

    public const ulong WrittenLength = 64 * Page;

    public Puppet Puppet { get; }

    public int Pid => Puppet.Pid;

    /// <summary>Two pages that were left are no fault, and are unmapped before it is looked at.</summary>
    public bool MayHaveTwoPages { get; init; }

    /// <summary>Its thread in epoll_wait has seen an EINTR: of a caller killed in the instant between stopping it and repairing that (docs/limits.md).</summary>
    public bool HasSeenEintr => Puppet.Awake() == $"epoll_wait:{(int)Errno.EINTR} {_awake}";

    /// <summary>Where a thread writes, from start to end, a number that grows from round to round, into the second word of each page.</summary>
    public ulong Written { get; }

    /// <summary>Memory with content, and the seed of its pattern.</summary>
    public IReadOnlyList<(ulong Address, ulong Length, ulong Seed)> Blocks => _blocks;

    /// <summary>A command that runs in its namespace.</summary>
    public string[] Beside(params string[] command) => ["nsenter", $"--uts=/proc/{Pid}/ns/uts", .. command];

    /// <summary>Fails unless, in a while, it is as it was and nobody of ours is left.</summary>
    /// <param name="when">What has been done.</param>
    /// <param name="others">Who else may be there.</param>
    public void AssertAsFound(string when, params int[] others)
    {
        AssertAlone(when, others);
        GiveBackTwoPages();
        try
        {
            _before.AssertUnchanged();
            Assert.Equal(_awake, Puppet.Awake());
            ulong rounds = Puppet.Tally().Rounds;
            Eventually.Holds(() => Puppet.Tally().Rounds > rounds, "its thread goes on writing");
            foreach ((ulong address, ulong length, ulong seed) in _blocks) Puppet.AssertContent(address, length, seed);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            Assert.Fail($"{when}: {e.Message}");
        }
    }

    /// <summary>
    /// Between two calls in the source, the one that maps our two pages and the one that makes the first of them executable, nobody is there who could unmap
    /// them (docs/limits.md).
    /// </summary>
    private void GiveBackTwoPages()
    {
        if (!MayHaveTwoPages) return;
        foreach (Vma vma in Smaps.ReadMaps(Pid).Where(vma => vma is { Permissions: "rwxp", Inode: "0", Name: "" } && vma.Range.Length == 2 * Page && !_maps.Contains(vma.Range)))
            Puppet.Unmap(vma.Range.Start, vma.Range.Length);
    }

    /// <summary>Fails unless nobody of ours is left.</summary>
    public void AssertAlone(string when, params int[] others)
    {
        string wrong = "";
        bool alone = Eventually.Becomes(() =>
        {
            wrong = string.Join(", ", _mark.Living.Where(pid => pid != Pid && !others.Contains(pid)).Select(pid => $"{ProcessStatus.Name(pid)} {pid} is left").Concat(ProcessStatus.Restraints(Pid)));
            return wrong.Length == 0;
        }, StraySeconds);
        Assert.True(alone, $"{when}: {wrong}");
    }

    /// <summary>Fails unless the content is that of one instant.</summary>
    /// <param name="read">Reads so many bytes at an address.</param>
    public unsafe void AssertWhole(Func<ulong, int, byte[]> read)
    {
        foreach ((ulong address, ulong length, ulong seed) in _blocks)
        {
            fixed (byte* here = read(address, (int)length))
            {
                Census seen = Pattern.Examine((ulong)here, length, seed, 0, 1);
                Assert.True(seen.Good == length / Page, $"0x{address:x} + {length} should hold seed {seed}: {seen}");
            }
        }
        byte[] written = read(Written, (int)WrittenLength);
        ulong first = BitConverter.ToUInt64(written, 8), last = first;
        for (int page = 0; page < written.Length; page += (int)Page)
        {
            ulong round = BitConverter.ToUInt64(written, page + 8);
            Assert.True(round == last || (last == first && round + 1 == first), $"page {page / (int)Page} was written in round {round}, those before it in {first} and {last}");
            last = round;
        }
    }

    public void Dispose()
    {
        Puppet.Dispose();
        foreach (int pid in _mark.Living) Libc.Kill(pid, Libc.SIGKILL);
        _mark.Dispose();
    }

    private void Fill(ulong at, ulong length)
    {
        _blocks.Add((at, length, (ulong)_blocks.Count + 1));
        Puppet.Fill(at, length, (ulong)_blocks.Count);
    }

    // A writer runs, or waits for a page ("-1").
    private int Asleep() => Directory.EnumerateDirectories($"/proc/{Pid}/task").Count(task => char.IsAsciiDigit(File.ReadAllText($"{task}/syscall")[0]));
}
