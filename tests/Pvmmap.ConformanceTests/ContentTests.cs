using System.Runtime.InteropServices;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>Every byte of the destination reads as the source had it at the cut.</summary>
public class ContentTests(Theatre theatre) : Scene(theatre)
{
    public static TheoryData<Way, MmapFlags> WaysAndFills => new MatrixTheoryData<Way, MmapFlags>(
        Enum.GetValues<Way>(), [MmapFlags.None, MmapFlags.Lazy, MmapFlags.Populate]);

    [Theory]
    [MemberData(nameof(WaysAndFills))]
    public void Every_byte_of_64_MiB_arrives(Way way, MmapFlags fill)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong at = MapFilled(source, 64 * MiB, 1);
        MmapResult result = Call(source, target, at, 64 * MiB, flags: fill);
        target.AssertContent(result.Address, 64 * MiB, 1);
        source.AssertContent(at, 64 * MiB, 1);
        result.Duplication.Finish();
        AssertCompletes(result);
        target.AssertContent(result.Address, 64 * MiB, 1);
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void Unaligned_140_MiB_are_rounded_outward(Way way)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong length = 140 * MiB, at = MapFilled(source, length, 2);
        MmapResult result = Call(source, target, at + 123, length - 123 - 1001);
        Assert.Equal(length, result.Length);
        Assert.Equal(result.Address + 123, result.DataAddress);
        AssertCompletes(result);
        target.AssertContent(result.Address, length, 2);
    }

    [Theory]
    [InlineData(0, 1, 1)]
    [InlineData(0, 4095, 1)]
    [InlineData(0, 4096, 1)]
    [InlineData(0, 4097, 2)]
    [InlineData(1, 4095, 1)]
    [InlineData(1, 4096, 2)]
    [InlineData(4095, 1, 1)]
    [InlineData(4095, 2, 2)]
    [InlineData(4095, 4098, 3)]
    public void Each_page_that_the_range_touches_is_mapped(int offset, int length, int pages)
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(8 * Page, 3);
        foreach ((AddressSpace from, AddressSpace to) in new (AddressSpace, AddressSpace)[] { (source, target), (source, Own) })
        {
            MmapResult result = Call(from, to, at + 2 * Page + (ulong)offset, (ulong)length);
            Assert.Equal((ulong)pages * Page, result.Length);
            Assert.Equal(0UL, result.Address % Page);
            Assert.Equal(result.Address + (ulong)offset, result.DataAddress);
            to.AssertContent(result.Address, result.Length, 3, firstPage: 2);
            AssertCompletes(result);
        }
    }

    [Fact]
    public void Writers_of_the_source_are_cut_at_one_instant()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        const int Writers = 3;
        ulong length = 48 * MiB, at = source.Map(length), baton = source.Map(32 * MiB);
        source.Fill(at, length, 4);
        source.Fill(baton, 32 * MiB, 4);
        source.Write(baton, new byte[1024]);
        source.Write(baton + 32 * MiB - Page, new byte[1024]);
        source.StartWriters(Writers, at, length);
        source.StartRelay(baton, baton + 32 * MiB - Page);
        for (int round = 0; round < 10; round++)
        {
            Tally before = source.Tally();
            Eventually.Holds(() => source.Tally().Rounds > before.Rounds + 1000, "the writers write");
            // fill order, direction and who calls must make no difference to what an instant is
            AddressSpace into = round % 2 == 0 ? Own : target;
            MmapResult pages = Call(source, into, at, length, flags: round % 3 == 0 ? MmapFlags.Lazy : MmapFlags.None);
            AssertOneInstant(into, pages.Address, length, Writers);
            MmapResult relay = Call(source, into, baton, 32 * MiB);
            AssertRelayInOrder(into, relay.Address, relay.Address + 32 * MiB - Page);
            into.Unmap(pages.Address, length);
            into.Unmap(relay.Address, 32 * MiB);
        }
        source.JoinThreads();
    }

    [Fact]
    public void A_page_that_the_caller_is_writing_lands_on_one_side_or_the_other()
    {
        Puppet target = NewPuppet();
        ulong length = 16 * MiB, at = MapFilled(Own, length, 5);
        WriteSecondWords(at, length, 0);
        bool stop = false;
        var writer = new Thread(() =>
        {
            for (ulong round = 1; !Volatile.Read(ref stop); round++) WriteSecondWords(at, length, round);
        });
        writer.Start();
        try
        {
            for (int round = 0; round < 5; round++)
            {
                MmapResult result = Call(Own, target, at, length);
                ulong[] rounds = SecondWords(target, result.Address, length);
                // each is a number that was written there before now, and the page's other words are the page's own
                ulong newest = SecondWords(Own, at, length).Max();
                Assert.All(rounds, word => Assert.InRange(word, 0UL, newest));
                for (ulong page = 0; page < length / Page; page += 512)
                    Assert.Equal(Pattern.FirstWord(5, page), Word(target, result.Address + page * Page));
                AssertCompletes(result);
                target.Unmap(result.Address, length);
            }
        }
        finally
        {
            Volatile.Write(ref stop, true);
            writer.Join();
        }
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void Transparent_huge_pages_arrive_whole_and_in_pieces(Way way)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong length = 32 * MiB, at = source.MapHugeAligned(length, Madv.HugePage);
        if (source is OwnProcess) UnmapAtEnd(at, length);
        source.Fill(at, length, 6);
        // a huge page with a hole, one split by protection, one moved away and back
        source.Must(source.Advise(at + 2 * MiB + 16 * Page, 4 * Page, Madv.DontNeed), "madvise");
        source.Protect(at + 4 * MiB, 8 * Page, Prot.Read);
        source.Protect(at + 4 * MiB, 8 * Page, Prot.ReadWrite);
        MmapResult result = Call(source, target, at, length);
        ulong[] cuts = [0, 2 * MiB + 16 * Page, 2 * MiB + 20 * Page, length];
        target.AssertContent(result.Address, cuts[1], 6);
        Census hole = target.Examine(result.Address + cuts[1], 4 * Page, 6);
        Assert.True(hole is { Zero: 4, Good: 0 }, hole.ToString());
        target.AssertContent(result.Address + cuts[2], length - cuts[2], 6, cuts[2] / Page);
        AssertCompletes(result);
        target.AssertContent(result.Address + cuts[2], length - cuts[2], 6, cuts[2] / Page);
    }

    /// <summary>In each slice: one number, or a higher one followed by the next lower one. Anything else is more than one instant.</summary>
    private static void AssertOneInstant(AddressSpace space, ulong at, ulong length, int writers)
    {
        ulong share = length / (ulong)writers & ~(Page - 1);
        for (ulong i = 0; i < (ulong)writers; i++)
        {
            ulong[] rounds = SecondWords(space, at + i * share, share);
            for (int page = 1; page < rounds.Length; page++)
            {
                Assert.True(rounds[page] == rounds[page - 1] || rounds[page] == rounds[page - 1] - 1,
                    $"page at 0x{at + i * share + (ulong)page * Page:x} is of round {rounds[page]}, the one before of {rounds[page - 1]}");
            }
            Assert.True(rounds[0] - rounds[^1] <= 1, $"slice {i} spans rounds {rounds[^1]} to {rounds[0]}");
        }
    }

    private static void AssertRelayInOrder(AddressSpace space, ulong low, ulong high)
    {
        ulong first = Word(space, low), second = Word(space, high), third = Word(space, low + 512);
        Assert.True(third <= second && second <= first, $"counted {first}, followed {second}, followed {third}: not one instant");
    }

    private static ulong Word(AddressSpace space, ulong at) => BitConverter.ToUInt64(space.Read(at, 8));

    /// <summary>The second word of each page. Read through /proc/PID/mem only after a touch, which cannot wait for missing pages.</summary>
    private static ulong[] SecondWords(AddressSpace space, ulong at, ulong length)
    {
        space.Touch(at, length);
        ulong[] words = new ulong[length / Page];
        if (space is OwnProcess)
        {
            for (ulong i = 0; i < (ulong)words.Length; i++) words[i] = (ulong)Marshal.ReadInt64((nint)(at + i * Page + 8));
            return words;
        }
        byte[] all = new byte[length];
        using FileStream memory = File.OpenRead($"/proc/{space.Pid}/mem");
        memory.Position = (long)at;
        memory.ReadExactly(all);
        for (int i = 0; i < words.Length; i++) words[i] = BitConverter.ToUInt64(all, i * (int)Page + 8);
        return words;
    }

    private static void WriteSecondWords(ulong at, ulong length, ulong round)
    {
        for (ulong i = 0; i < length; i += Page) Marshal.WriteInt64((nint)(at + i + 8), (long)round);
    }
}
