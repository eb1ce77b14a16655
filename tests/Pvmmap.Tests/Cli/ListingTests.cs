using Pvmmap.Cli;
using Xunit;

namespace Pvmmap.Tests.Cli;

public sealed class ListingTests
{
    [Fact]
    public void Columns_are_aligned_and_lines_have_no_trailing_blanks()
    {
        var listing = new Listing("NAME", ">SIZE", "NOTE");
        listing.Add("a", "1", "");
        listing.Add("longer", "12345", "x");
        Assert.Equal("NAME     SIZE  NOTE\na           1\nlonger  12345  x\n", listing.ToString());
    }

    [Fact]
    public void Vmas_are_listed_with_what_a_fill_still_owes_them()
    {
        MapCommand.VmaRow[] rows =
        [
            new("0x7f0000000000", "0x7f0000400000", "rw-p", 4 << 20, 1 << 20, 0, 0, new MapCommand.Filling(12, 11, 3 << 20, 4 << 20), ""),
            new("0x7f0000400000", "0x7f0000401000", "r--p", 4096, 0, 4096, 0, null, "[heap]"),
        ];
        Assert.Equal(
            """
            RANGE                      PERM   SIZE  RESIDENT  SWAPPED  TO FILL  NAME
            7f0000000000-7f0000400000  rw-p  4 MiB     1 MiB        -    3 MiB
            7f0000400000-7f0000401000  r--p  4 KiB       0 B    4 KiB        -  [heap]

            """, MapCommand.Render(rows).ToString());
    }

    [Fact]
    public void Fills_are_listed_with_their_progress()
    {
        PsCommand.FillRow copy = new(
            31, 32, 0, 11, 12, "copy", "0x7e0000000000", "0x7f0000000000", 64 << 20, 64 << 20, 48 << 20, 16 << 20, 7, 1_500_000, "filling");
        PsCommand.FillRow move = copy with { HolderPid = 33, GuardianPid = 34, SentinelPid = 35, Mode = "move", AgeUs = 1200, State = "lazy" };
        PsCommand.FillRow alone = copy with { GuardianPid = 0 };
        Assert.Equal(
            """
            HOLDER  GUARDS  SOURCE  TARGET  MODE  ADDRESS         FILLED            DONE  FAULTS     AGE  STATE
                31  32          11      12  copy  0x7f0000000000  48 MiB of 64 MiB  75 %       7  1.50 s  filling
                33  34,35       11      12  move  0x7f0000000000  48 MiB of 64 MiB  75 %       7  1.2 ms  lazy
                31  none        11      12  copy  0x7f0000000000  48 MiB of 64 MiB  75 %       7  1.50 s  filling

            """, PsCommand.Render(new PsCommand.Report([copy, move, alone], [])));
    }

    [Fact]
    public void Snapshots_are_listed_below_the_fills_with_whom_they_go_with()
    {
        PsCommand.SnapshotRow kept = new(41, 11, "redis-server", 0, 64 << 20, 8 << 20, default, 90_000_000), owned = kept with { KeeperPid = 42, OwnerPid = 12, OwnBytes = 0, AgeUs = 1200 };
        PsCommand.FillRow fill = new(
            31, 32, 0, 11, 12, "copy", "0x7e0000000000", "0x7f0000000000", 64 << 20, 64 << 20, 48 << 20, 16 << 20, 7, 1_500_000, "filling");
        const string snapshots = """
            KEEPER  OF  NAME             OWNER  MEMORY  ITS OWN         AGE
                41  11  redis-server  detached  64 MiB    8 MiB  1 min 30 s
                42  11  redis-server        12  64 MiB      0 B      1.2 ms

            """;
        Assert.Equal(snapshots, PsCommand.Render(new PsCommand.Report([], [kept, owned])));
        Assert.EndsWith($"filling\n\n{snapshots}", PsCommand.Render(new PsCommand.Report([fill], [kept, owned])), StringComparison.Ordinal);
        Assert.Equal("No fill is under way, and no snapshot is kept.\n", PsCommand.Render(new PsCommand.Report([], [])));
    }
}
