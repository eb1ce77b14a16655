using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>A range may span several VMAs; a hole inside it is EFAULT.</summary>
public class SeveralVmasTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Piece = MiB / 2;

    private static readonly Prot[] s_protections =
        [Prot.ReadWrite, Prot.Read, Prot.None, Prot.Read | Prot.Exec, Prot.ReadWrite, Prot.None, Prot.ReadWrite | Prot.Exec, Prot.Read];

    private static readonly ulong s_length = Piece * (ulong)s_protections.Length;

    public static TheoryData<Way, MmapFlags> WaysAndFills => new MatrixTheoryData<Way, MmapFlags>(
        Enum.GetValues<Way>(), [MmapFlags.None, MmapFlags.Lazy, MmapFlags.Populate]);

    [Theory]
    [MemberData(nameof(WaysAndFills))]
    public void Each_piece_keeps_its_protection_and_content(Way way, MmapFlags fill)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong at = MapStriped(source);
        MmapResult result = Call(source, target, at, s_length, flags: fill);
        AssertStriped(target, result.Address);
        AssertStriped(source, at);
        result.Duplication.Finish();
        AssertCompletes(result);
        foreach (AddressSpace space in (AddressSpace[])[target, source])
        {
            ulong start = space == source ? at : result.Address;
            space.Protect(start, s_length, Prot.ReadWrite);
            space.AssertContent(start, s_length, 1);
        }
    }

    [Fact]
    public void Fixed_replaces_with_all_pieces()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = MapStriped(source), place = target.MapFilled(s_length, 9);
        MmapResult result = Call(source, target, at, s_length, place, MmapFlags.Fixed | MmapFlags.Lazy);
        Assert.Equal(place, result.Address);
        AssertStriped(target, place);
        target.Protect(place, s_length, Prot.ReadWrite);
        target.AssertContent(place, s_length, 1);
    }

    [Fact]
    public void A_part_of_the_first_and_of_the_last_piece_will_do()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = MapStriped(source);
        MmapResult result = Call(source, target, at + Piece / 2, 2 * Piece);
        Assert.Equal(["rw-p", "r--p", "---p"], Smaps.Within(target.Pid, result.Address, result.Length).Select(vma => vma.Permissions));
        target.Protect(result.Address, result.Length, Prot.Read);
        target.AssertContent(result.Address, result.Length, 1, Piece / 2 / Page);
        AssertCompletes(result);
    }

    [Fact]
    public void Pieces_of_different_advice_keep_it()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(3 * MiB, 1);
        source.Must(source.Advise(at + MiB, MiB, Madv.DontDump), "madvise");
        MmapResult result = Call(source, target, at, 3 * MiB);
        Assert.Equal([false, true, false], Smaps.Within(target.Pid, result.Address, 3 * MiB).Select(vma => vma.Has("dd")));
        target.AssertContent(result.Address, 3 * MiB, 1);
    }

    [Fact]
    public void A_hundred_pieces()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(200 * Page, 1);
        for (ulong page = 0; page < 200; page += 4) source.Protect(at + page * Page, 2 * Page, Prot.Read);
        MmapResult result = Call(source, target, at, 200 * Page);
        Assert.Equal(100, Smaps.Within(target.Pid, result.Address, 200 * Page).Count);
        target.AssertContent(result.Address, 200 * Page, 1);
        AssertCompletes(result);
    }

    private ulong MapStriped(AddressSpace space)
    {
        ulong at = MapFilled(space, s_length, 1);
        for (int i = 0; i < s_protections.Length; i++) space.Protect(at + (ulong)i * Piece, Piece, s_protections[i]);
        return at;
    }

    private static void AssertStriped(AddressSpace space, ulong at)
    {
        for (int i = 0; i < s_protections.Length; i++)
        {
            Prot p = s_protections[i];
            string expected = Smaps.Letters(p);
            Assert.Equal(expected, Assert.Single(Smaps.Within(space.Pid, at + (ulong)i * Piece, Piece)).Permissions);
        }
    }
}
