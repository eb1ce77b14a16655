using System.CommandLine;
using System.CommandLine.Invocation;
using Pvmmap.Cli;
using Xunit;

namespace Pvmmap.Tests.Cli;

public sealed class CommandLineTests
{
    [Theory]
    [InlineData("map 1")]
    [InlineData("map 1 --json")]
    [InlineData("copy --from 1 --to 2 --range 0x1000-0x2000")]
    [InlineData("copy --from 1 --to 2 --range 7f3c10000000-7f3c14000000 --at 0x10000 --fixed --populate --json")]
    [InlineData("copy --from=1 --to=2 --range=0x1000+1M --at=65536 --fixed-noreplace --lazy")]
    [InlineData("move --from 1 --to 2 --range 7f3c10000000-7f3c14000000")]
    [InlineData("move --from=1 --to=2 --range=0x1000+1M --at=65536 --fixed-noreplace --lazy")]
    [InlineData("snapshot 1 -o core")]
    [InlineData("snapshot 1 --output core.zst --force --full --include-dontdump --json")]
    [InlineData("snapshot 1 -o - --compress gzip --filter 0x33")]
    [InlineData("snapshot 1 -o core --range 0x1000+4K --range 7f3c10000000-7f3c14000000 --compress none")]
    [InlineData("snapshot 1 --keep --range 0x1000+4K --json")]
    [InlineData("snapshot 1 -o - --release")]
    [InlineData("snapshot 1 -o core --max-shared 4G")]
    [InlineData("heap 123 --max-shared 4G")]
    [InlineData("ps --json")]
    [InlineData("doctor")]
    [InlineData("doctor --from 1 --to 2")]
    [InlineData("doctor --from 1 --json")]
    [InlineData("doctor --to=2")]
    [InlineData("heap 123")]
    [InlineData("heap 123 --top 20 --min-size 1K --max-size 85000 --type System.String --timeout 60 --dac /usr/lib/libmscordaccore.so --json")]
    [InlineData("demo")]
    [InlineData("demo /tmp --size 256M")]
    public void What_the_documentation_shows_is_accepted(string line) => Assert.Empty(Parse(line).Errors);

    [Theory]
    [InlineData("", "Required command was not provided; see 'pvmmap --help'")]
    [InlineData("frobnicate", "see 'pvmmap --help'")]
    [InlineData("map", "see 'pvmmap map --help'")]
    [InlineData("map x", "map: PID: 'x' is not a process id; write a positive decimal number")]
    [InlineData("map -1", "map: PID: '-1' is not a process id; write a positive decimal number")]
    [InlineData("map 0", "map: PID: '0' is not a process id; write a positive decimal number")]
    [InlineData("map 99999999999", "is not a process id; ")]
    [InlineData("copy --to 2 --range 0x1000+4K", "copy: Option '--from' is required; see 'pvmmap copy --help'")]
    [InlineData("copy --from 1 --to 2 --range 1000", "copy: --range: '1000' is not a range; write START-END")]
    [InlineData("copy --from 1 --to 2 --range 0x1000+4K --at zz", "copy: --at: 'zz' is not an address; write")]
    [InlineData("copy --from 1 --to 2 --range 0x1000+4K --fixed", "copy: --fixed and --fixed-noreplace need an address; add --at ADDR")]
    [InlineData("copy --from 1 --to 2 --range 0x1000+4K --lazy --populate", "copy: --lazy contradicts --populate; choose one of them")]
    [InlineData("copy --from 1 --to 2 --range 0x1000+4K --move", "see 'pvmmap copy --help'")]
    [InlineData("move --from 1 --to 2", "move: Option '--range' is required; see 'pvmmap move --help'")]
    [InlineData("move --from 1 --to 2 --range 0x1000+4K --fixed", "move: --fixed and --fixed-noreplace need an address; add --at ADDR")]
    [InlineData("snapshot 1", "snapshot: say what to do: write a file (-o FILE, or -o - for standard output), --keep or --release")]
    [InlineData("snapshot 1 --keep --compress gzip", "snapshot: --compress and --force are of a file; name it with -o")]
    [InlineData("snapshot 1 -o core --keep --release", "snapshot: --keep contradicts --release; choose one of them")]
    [InlineData("snapshot 1 --release --range 0x1000+4K", "snapshot: --release ends the whole snapshot; leave out --range")]
    [InlineData("snapshot 1 --release --max-shared 4G", "snapshot: --release takes no snapshot; leave out --max-shared")]
    [InlineData("snapshot 1 -o core --max-shared 0", "snapshot: --max-shared: the size '0' is zero; give at least 1 byte")]
    [InlineData("snapshot -o core", "see 'pvmmap snapshot --help'")]
    [InlineData("snapshot x -o core", "snapshot: PID: 'x' is not a process id; write a positive decimal number")]
    [InlineData("snapshot 1 -o core --compress rar", "snapshot: --compress: 'rar' is not known; write gzip, zstd or none")]
    [InlineData("snapshot 1 -o core --filter 0x200", "snapshot: --filter: '0x200' is not a filter; write 0x0 to 0x1ff, the bits of core(5)")]
    [InlineData("snapshot 1 -o core --filter 0x33 --full", "snapshot: --full contradicts --filter; choose one of them")]
    [InlineData("snapshot 1 -o - --json", "snapshot: --json and the core would both go to standard output; give -o a file")]
    [InlineData("snapshot 1 -o core --range 0x1000+4K --range 12", "snapshot: --range: '12' is not a range; write START-END")]
    [InlineData("doctor --from -1 --to 2", "doctor: --from: '-1' is not a process id; write a positive decimal number")]
    [InlineData("doctor --to 0", "doctor: --to: '0' is not a process id; write a positive decimal number")]
    [InlineData("doctor --from", "see 'pvmmap doctor --help'")]
    [InlineData("heap", "see 'pvmmap heap --help'")]
    [InlineData("heap x", "heap: PID: 'x' is not a process id; write a positive decimal number")]
    [InlineData("heap 123 --top 0", "heap: --top: give at least 1; see 'pvmmap heap --help'")]
    [InlineData("heap 123 --timeout -1", "heap: --timeout: give 0 to 86400 seconds; see 'pvmmap heap --help'")]
    [InlineData("heap 123 --min-size 0", "heap: --min-size: the size '0' is zero; give at least 1 byte")]
    [InlineData("demo --size 0", "demo: --size: the size '0' is zero; give at least 1 byte")]
    public void What_is_wrong_is_said_in_one_line_with_what_to_do(string line, string expected)
    {
        ParseResult parsed = Parse(line);
        Assert.IsType<ParseErrorAction>(parsed.Action, exactMatch: false);
        string message = Program.DescribeUsage(parsed);
        Assert.Contains(expected, message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', message);
    }

    [Fact]
    public void A_file_has_a_name()
    {
        ParseResult parsed = Program.Build().Parse(["snapshot", "1", "-o", ""]);
        Assert.IsType<ParseErrorAction>(parsed.Action, exactMatch: false);
        Assert.Equal("snapshot: --output: the name is empty; name a file, or write - for standard output", Program.DescribeUsage(parsed));
    }

    [Fact]
    public void The_processes_of_the_demo_are_no_commands_for_people() =>
        Assert.Equal(
            ["copy", "demo", "doctor", "heap", "map", "move", "ps", "snapshot"],
            Program.Build().Subcommands.Where(c => !c.Hidden).Select(c => c.Name).Order(StringComparer.Ordinal));

    [Fact]
    public void Move_has_the_options_of_copy_and_says_that_the_source_loses_the_range()
    {
        Command copy = Command("copy"), move = Command("move");
        Assert.Equal(copy.Options.Select(option => option.Name), move.Options.Select(option => option.Name));
        Assert.Contains("the source range is unmapped", move.Description, StringComparison.Ordinal);
        Assert.DoesNotContain("unmapped", copy.Description, StringComparison.Ordinal);
    }

    private static Command Command(string name) => Program.Build().Subcommands.Single(command => command.Name == name);

    private static ParseResult Parse(string line) => Program.Build().Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries));
}
