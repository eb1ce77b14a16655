using System.Globalization;
using System.Text;
using CsCheck;
using Pvmmap.Procfs;
using Pvmmap.Source;
using Xunit;

namespace Pvmmap.Tests.Source;

public class SourcePlanTests
{
    private const int Pid = 4711;
    private const ulong Page = PageRange.PageSize, Start = 0x7f00_0000_0000;
    private const string Around = "take what lies before and behind it";

    /// <summary>The rest of a line of maps, VmFlags, and why memory like this cannot be taken.</summary>
    public static TheoryData<string, string, string> Refused => new()
    {
        { "r-xp 00000000 00:00 0 [vdso]", "rd ex mr mw me de", "belongs to the kernel" },
        { "r--p 00000000 00:00 0 [vvar]", "rd mr io de dd pf", "belongs to the kernel" },
        { "r--p 00000000 00:00 0 [vvar_vclock]", "rd mr io de dd pf", "belongs to the kernel" },
        { "r-xp 00000000 00:00 0 [uprobes]", "rd ex mr me dc", "belongs to the kernel" },
        { "rw-s 00000000 00:06 12 /dev/mem", "rd wr sh mr mw me ms io", "device memory" },
        { "rw-s 00000000 00:06 13 /dev/dri/card0", "rd wr sh mr mw me ms pf", "raw page frames" },
        { "rw-p 00000000 00:06 14 /dev/thing", "rd wr mr mw me mm", "device memory" },
        { "rw-p 00000000 00:00 0 ", "rd wr mr mw me dp", "MAP_DROPPABLE" },
        { "rw-p 00000000 00:00 0 ", "rd wr mr mw me ss", "shadow stack" },
        { "rw-s 00000000 00:0e 15 anon_inode:[io_uring]", "rd wr sh mr mw me ms", "an object of the kernel's" },
        { "rw-s 00000000 00:0e 16 anon_inode:[perf_event]", "rd wr sh mr mw me ms", "an object of the kernel's" },
        { "rw-s 00000000 00:11 17 /[aio] (deleted)", "rd wr sh mr mw me ms", "an object of the kernel's" },
        { "rw-s 00000000 00:12 18 /secretmem (deleted)", "rd wr sh mr mw me ms lo", "an object of the kernel's" },
        { "rw-s 00000000 00:13 19 /dmabuf:heap", "rd wr sh mr mw me ms", "an object of the kernel's" },
    };

    /// <summary>The message is the only thing that somebody has who does not know what was in the way: which mapping, why, and what to do.</summary>
    [Theory]
    [MemberData(nameof(Refused))]
    public void What_cannot_be_taken_is_named_with_the_reason_and_the_cure(string kind, string flags, string reason)
    {
        const string ordinary = "rw-p 00000000 00:00 0 ", itsFlags = "rd wr mr mw me ac";
        string smaps = Entry(0, 2, ordinary, itsFlags) + Entry(2, 1, kind, flags) + Entry(3, 2, ordinary, itsFlags);
        PvmmapException e = Assert.Throws<PvmmapException>(() => Check(smaps, 0, 5));
        Assert.Equal(Errno.EFAULT, e.Errno);
        Assert.Equal(Pid, e.Pid);
        Assert.Equal(Pages(2, 1), e.Range);
        string name = kind.Split(' ', 5)[4];
        foreach (string said in (string[])[$"{Start + (2 * Page):x}-{Start + (3 * Page):x}", kind[..4], name, reason, Around]) Assert.Contains(said, e.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', e.Message);
        // The cure: what lies before and behind is taken.
        Assert.Equal([Pages(0, 2)], Check(smaps, 0, 2).Parts);
        Assert.Equal([Pages(3, 2)], Check(smaps, 3, 2).Parts);
    }

    [Theory]
    [InlineData(0, 2, 0)]
    [InlineData(1, 4, 2)]
    [InlineData(3, 4, 5)]
    [InlineData(5, 3, 5)]
    public void A_hole_is_named_where_it_begins(int first, int count, int hole)
    {
        string smaps = Entry(1, 1) + Entry(3, 2);
        PvmmapException e = Assert.Throws<PvmmapException>(() => Check(smaps, first, count));
        Assert.Equal(Errno.EFAULT, e.Errno);
        Assert.Equal(Pages(hole, first + count - hole), e.Range);
        Assert.Contains("nothing is mapped", e.Message, StringComparison.Ordinal);
        Assert.Contains("/proc/PID/maps", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Half_a_huge_page_is_not_taken_and_the_message_has_its_size()
    {
        const int pages = 512;
        string smaps = Entry(0, 2 * pages, "rw-p 00000000 00:0f 1063 /anon_hugepage (deleted)", "rd wr mr mw me de ht", kernelPage: 2048);
        Assert.Equal(2ul << 20, Check(smaps, pages, pages).Alignment);
        foreach ((int first, int count) in ((int, int)[])[(0, pages + 1), (1, pages), (pages - 1, 2)])
        {
            PvmmapException e = Assert.Throws<PvmmapException>(() => Check(smaps, first, count));
            Assert.Equal(Errno.EINVAL, e.Errno);
            Assert.Contains("/anon_hugepage", e.Message, StringComparison.Ordinal);
            Assert.Contains("begin and end it at multiples of 2097152 bytes", e.Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("rw-p", 0, true)]
    [InlineData("r--p", 0, true)]
    [InlineData("---p", 0, false)]
    [InlineData("rw-p", 3, false)]
    public void Memory_behind_a_protection_or_a_key_is_not_readable(string protection, int key, bool readable) =>
        Assert.Equal(readable, Check(Entry(0, 1) + Entry(1, 1, $"{protection} 00000000 00:00 0 ", "mr mw me", key: key), 0, 2).IsReadable);

    /// <summary>Whatever lies side by side: nothing is lost or taken twice, what is alike is one piece, and what is not is not.</summary>
    [Fact]
    public void Pieces_cover_the_range_and_join_only_what_is_alike()
    {
        string[] kinds = ["rw-p 00000000 00:00 0 ", "r--p 00000000 00:00 0 ", "rw-p 00000000 00:00 0 [anon:heap]", "r--p 00000000 fd:00 99 /usr/lib/x.so", "rw-s 00000000 00:01 7 /dev/zero (deleted)"];
        // The last two are the same to a target: whether memory is locked, or was charged, is the source's affair.
        string[] flags = ["rd wr mr mw me", "rd wr mr mw me hg", "rd wr mr mw me dd", "rd wr mr mw me ac lo"];
        Gen.Select(Gen.Int[1, 4], Gen.Int[0, kinds.Length - 1], Gen.Int[0, flags.Length - 1]).Array[1, 12].Sample(areas =>
        {
            StringBuilder smaps = new();
            List<PageRange> parts = [];
            int at = 0;
            foreach ((int count, int kind, int flag) in areas)
            {
                smaps.Append(Entry(at, count, kinds[kind], flags[flag]));
                parts.Add(Pages(at, count));
                at += count;
            }
            SourcePlan plan = Check(smaps.ToString(), 0, at);
            Assert.Equal(parts, plan.Parts);
            Assert.Equal(Pages(0, at), plan.Range);
            int area = 0;
            ulong end = plan.Range.Start;
            foreach (SourcePiece piece in plan.Pieces)
            {
                Assert.Equal(end, piece.Range.Start);
                int first = area;
                for (; area < parts.Count && parts[area].End <= piece.Range.End; area++)
                {
                    Assert.Equal(areas[first].Item2, areas[area].Item2);
                    Assert.Equal(areas[first].Item3 % 3, areas[area].Item3 % 3);
                }
                Assert.Equal(parts[area - 1].End, piece.Range.End);
                end = piece.Range.End;
            }
            Assert.Equal(plan.Range.End, end);
            foreach ((SourcePiece one, SourcePiece next) in plan.Pieces.Zip(plan.Pieces.Skip(1))) Assert.NotEqual(one with { Range = next.Range }, next);
            Assert.Equal(plan.Pieces.Where(piece => piece.IsAnonymous).Sum(piece => (long)piece.Range.Length), plan.AnonymousRuns.Sum(run => (long)run.Length));
        });
    }

    private static SourcePlan Check(string smaps, int first, int count) =>
        SourcePlan.Check(Pid, Pages(first, count), Smaps.Parse(Encoding.UTF8.GetBytes(smaps)));

    private static PageRange Pages(int first, int count) => new(Start + ((ulong)first * Page), Start + ((ulong)(first + count) * Page));

    private static string Entry(int first, int count, string kind = "rw-p 00000000 00:00 0 ", string flags = "rd wr mr mw me ac", int kernelPage = 4, int key = 0)
    {
        PageRange range = Pages(first, count);
        return string.Create(CultureInfo.InvariantCulture, $"{range.Start:x}-{range.End:x} {kind}\nKernelPageSize: {kernelPage} kB\nProtectionKey: {key}\nVmFlags: {flags}\n");
    }
}
