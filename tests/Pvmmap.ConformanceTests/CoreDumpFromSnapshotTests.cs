using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using Pvmmap.ConformanceTests.Cli;
using Pvmmap.ConformanceTests.Stage;
using Pvmmap.Snapshots;
using Snapshot = Pvmmap.Snapshots.ProcessSnapshot;

namespace Pvmmap.ConformanceTests;

/// <summary>Core files of real processes, read by the tools that people read cores with, and compared with what gcore writes.</summary>
public sealed partial class CoreDumpFromSnapshotTests(Theatre theatre) : Scene(theatre)
{
    public enum Program { Idlers, Threads, Python }

    public static TheoryData<Program> EachProgram => [.. Enum.GetValues<Program>()];

    [Theory]
    [MemberData(nameof(EachProgram))]
    public void Gdb_shows_the_same_as_of_gcores_core(Program program)
    {
        Machine.RequireProgram("gcore");
        (Actor actor, ulong data) = Start(program);
        using var halt = new Halt(actor.Pid);
        string folder = Theatre.NewFolder($"core-{Guid.NewGuid():N}"), ours = Path.Combine(folder, "ours");
        // gcore first: a snapshot lets the threads begin their system calls anew, and they then stop before them and not within.
        (int code, string output) = Theatre.Run("gcore", "-o", Path.Combine(folder, "theirs"), Invariant($"{actor.Pid}"));
        Assert.True(code == 0, output);
        Succeeds(Tool.Run($"snapshot {actor.Pid} -o {ours}"));

        string exe = new FileInfo($"/proc/{actor.Pid}/exe").LinkTarget!;
        string[] shown = Gdb(exe, ours, data), expected = Gdb(exe, Path.Combine(folder, Invariant($"theirs.{actor.Pid}")), data);
        int threads = Directory.EnumerateDirectories($"/proc/{actor.Pid}/task").Count();
        Assert.Equal(threads, shown.Count(line => line.StartsWith("rip ", StringComparison.Ordinal)));
        Assert.True(shown.Count(line => line.StartsWith('#')) >= threads, "there are stacks");
        // gcore's gdb, before 14, looks for the protection keys where Intel has them, on other processors too; the kernel begins with this value.
        string[] keys = [.. shown.Where(IsProtectionKeys)];
        Assert.All(keys, line => Assert.Contains(" 0x55555554 ", line, StringComparison.Ordinal));
        Assert.Equal(expected.Count(IsProtectionKeys), keys.Length);
        // So it does with the registers of AVX-512: what it shows of a living process is not what that has in them.
        Assert.Equal(WithoutAvx512(expected.Where(line => !IsProtectionKeys(line))), WithoutAvx512(shown.Where(line => !IsProtectionKeys(line))));
    }

    private static IEnumerable<string> WithoutAvx512(IEnumerable<string> lines)
    {
        bool within = false;
        foreach (string line in lines)
        {
            // A register that is shown in several lines goes on behind a blank.
            if (!line.StartsWith(' ')) within = Avx512().IsMatch(line);
            if (!within) yield return line;
        }
    }

    [GeneratedRegex(@"^(k[0-7]|zmm\d+|[xy]mm(1[6-9]|2\d|3[01])h?) ")]
    private static partial Regex Avx512();

    private static bool IsProtectionKeys(string line) => line.StartsWith("pkru ", StringComparison.Ordinal);

    [Theory]
    [MemberData(nameof(EachProgram))]
    public void Readelf_of_both_houses_has_nothing_to_say_against_it(Program program)
    {
        Machine.RequireProgram("eu-readelf");
        Actor actor = Start(program).Actor;
        string core = NewName();
        Succeeds(Tool.Run($"snapshot {actor.Pid} -o {core}"));
        foreach (string[] command in (string[][])[["readelf", "-lnW", core], ["eu-readelf", "-n", "-l", core], ["eu-readelf", "-h", core]])
        {
            (int code, string output) = Theatre.Run(command[0], command[1..]);
            Assert.Equal(0, code);
            Assert.DoesNotContain("arning", output, StringComparison.Ordinal);
            Assert.DoesNotContain("rror", output, StringComparison.Ordinal);
            Assert.DoesNotContain("nvalid", output, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void The_notes_tell_of_the_process_and_of_every_thread()
    {
        Machine.RequireProgram("eu-readelf");
        Actor actor = Start(Program.Idlers).Actor;
        string core = NewName();
        Succeeds(Tool.Run($"snapshot {actor.Pid} -o {core}"));
        string notes = Theatre.Run("eu-readelf", "-n", core).Output;
        string[] tasks = [.. Directory.EnumerateDirectories($"/proc/{actor.Pid}/task").Select(path => Path.GetFileName(path)).Order(StringComparer.Ordinal)];
        // "pid: 12, ppid: 1, pgrp: 12, sid: 12" stands in each NT_PRSTATUS, "fpvalid: 1" too, and once more in NT_PRPSINFO
        string parent = Invariant($"ppid: {ProcessStatus.Parent(actor.Pid)}, ");
        Assert.Equal(tasks.Length + 1, notes.Split(parent).Length - 1);
        Assert.All(tasks, task => Assert.Contains($"pid: {task}, {parent}", notes, StringComparison.Ordinal));
        Assert.Equal(tasks.Length, notes.Split("fpvalid: 1").Length - 1);
        Assert.Equal(tasks.Length, notes.Split("X86_XSTATE").Length - 1);
        string arguments = $"{Theatre.Program("puppet")} {Theatre.Door}";
        Assert.Contains("fname: puppet", notes, StringComparison.Ordinal);
        Assert.Contains($"psargs: {arguments[..Math.Min(arguments.Length, 79)]}\n", notes, StringComparison.Ordinal);
        Assert.Contains($"{Theatre.Program("puppet")}\n", notes, StringComparison.Ordinal); // among the mapped files
    }

    [Fact]
    public void Lldb_reads_it()
    {
        Machine.RequireProgram("lldb");
        (Actor actor, ulong data) = Start(Program.Idlers);
        string core = NewName();
        Succeeds(Tool.Run($"snapshot {actor.Pid} -o {core}"));
        string output = Theatre.Run("lldb", "--batch", "-c", core, new FileInfo($"/proc/{actor.Pid}/exe").LinkTarget!, "-o", "bt all", "-o",
            Invariant($"memory read --size 8 --format x --count 2 0x{data + Page:x}")).Output;
        int threads = Directory.EnumerateDirectories($"/proc/{actor.Pid}/task").Count();
        Assert.Equal(threads, output.Split(", stop reason = ").Length - 1);
        Assert.True(output.Split("frame #0: 0x").Length - 1 == threads, output);
        Assert.Contains($"0x{data + Page:x}: 0x{Pattern.FirstWord(1, 1):x16} 0x{Pattern.WordAt(Pattern.FirstWord(1, 1), 1):x16}", output, StringComparison.Ordinal);
    }

    [Fact]
    public void It_holds_the_instant_of_the_snapshot()
    {
        Puppet puppet = NewPuppet();
        ulong at = puppet.MapFilled(32 * MiB, 1);
        string core = NewName();
        using (Snapshot snapshot = Snapshot.Capture(puppet.Pid))
        {
            puppet.Fill(at, 32 * MiB, 2);
            CoreDumpResult result = CoreDump.Write(snapshot, core, cancellation: TestContext.Current.CancellationToken);
            Assert.Empty(result.Unreadable);
            Assert.Equal(snapshot.Ranges.Count, result.Segments);
            Assert.Equal(snapshot.Threads.Count, result.Threads);
        }
        using var image = new CoreImage(core);
        image.AssertContent(at, 32 * MiB, 1);
        puppet.AssertContent(at, 32 * MiB, 2);
    }

    [Fact]
    public void Untouched_memory_takes_no_room_in_the_file()
    {
        Puppet puppet = NewPuppet();
        ulong sparse = puppet.Map(512 * MiB), reserve = puppet.Map(1UL << 40, Prot.None, MapFlags.NoReserve);
        puppet.Fill(sparse + 100 * MiB, MiB, 1);
        string core = NewName();
        JsonElement report = Tool.Json($"snapshot {puppet.Pid} -o {core} --json");
        Assert.True(new FileInfo(core).Length > 512L << 20);
        Assert.InRange(ulong.Parse(Theatre.Run("stat", "-c", "%b", core).Output, CultureInfo.InvariantCulture) * 512, MiB, 32 * MiB);
        Assert.Equal((ulong)new FileInfo(core).Length, report.GetProperty("core_bytes").GetUInt64());
        using var image = new CoreImage(core);
        image.AssertContent(sparse + 100 * MiB, MiB, 1);
        Assert.Equal(new byte[MiB], image.Read(sparse + 200 * MiB, (int)MiB));
        Assert.Null(image.Read(reserve + MiB, 1));
        Assert.Contains(image.Loads, load => load.Range.Contains(new PageRange(reserve, reserve + (1UL << 40))));
    }

    [Fact]
    public void What_was_swapped_out_is_in_it()
    {
        Borrow(new ZramSwap(128 * MiB));
        Puppet puppet = NewPuppet();
        ulong at = puppet.MapFilled(32 * MiB, 1);
        puppet.Must(puppet.Advise(at, 32 * MiB, Madv.PageOut), "madvise");
        Eventually.Holds(() => Smaps.Within(puppet.Pid, at, 32 * MiB).Aggregate(0UL, (sum, vma) => sum + vma.Swapped) > 16 * MiB, "it is swapped out");
        string core = NewName();
        Succeeds(Tool.Run($"snapshot {puppet.Pid} -o {core}"));
        using var image = new CoreImage(core);
        image.AssertContent(at, 32 * MiB, 1);
    }

    [Fact]
    public void Pages_that_nobody_can_read_are_missing_in_a_file_and_warned_of_in_a_pipe()
    {
        Puppet puppet = NewPuppet();
        ulong guarded = puppet.MapFilled(MiB, 1);
        long guard = puppet.Advise(guarded + 16 * Page, 4 * Page, Madv.GuardInstall);
        Machine.Require(guard != -(long)Errno.EINVAL, "this kernel has no MADV_GUARD_INSTALL (6.13)");
        puppet.Must(guard, "madvise");
        string core = NewName(), pipe = NewName();
        JsonElement report = Tool.Json($"snapshot {puppet.Pid} -o {core} --json");
        JsonElement lost = Assert.Single(report.GetProperty("unreadable").EnumerateArray());
        Assert.Equal(($"0x{guarded + 16 * Page:x}", $"0x{guarded + 20 * Page:x}"), (lost.GetProperty("start").GetString(), lost.GetProperty("end").GetString()));
        using (var image = new CoreImage(core))
        {
            image.AssertContent(guarded, 16 * Page, 1);
            for (ulong page = 16; page < 20; page++) Assert.Null(image.Read(guarded + page * Page, 1));
            image.AssertContent(guarded + 20 * Page, MiB - 20 * Page, 1, 20);
        }
        string shown = Theatre.Run("gdb", "-nx", "-batch", "-ex", Invariant($"x/gx 0x{guarded + 16 * Page:x}"), "-c", core).Output;
        Assert.Contains($"Cannot access memory at address 0x{guarded + 16 * Page:x}", shown, StringComparison.Ordinal);
        Assert.DoesNotContain("arning", Theatre.Run("readelf", "-lnW", core).Output, StringComparison.Ordinal);

        (int code, string output) = Theatre.Run("sh", "-c", $"'{Tool.Path}' snapshot {puppet.Pid} -o - > {pipe}");
        Assert.Equal(1, code);
        Assert.Contains($"16 KiB could not be read, and zeros stand for it: {guarded + 16 * Page:x}-{guarded + 20 * Page:x}; ", output, StringComparison.Ordinal);
        Assert.Single(output.TrimEnd().Split('\n'));
    }

    [Fact]
    public void What_a_file_has_lost_is_missing()
    {
        Puppet puppet = NewPuppet();
        string path = NewName();
        File.WriteAllBytes(path, Enumerable.Repeat((byte)0x5a, (int)(8 * Page)).ToArray());
        int fd = puppet.OpenFile(path);
        ulong at = puppet.Map(8 * Page, Prot.ReadWrite, MapFlags.Private, fd: fd);
        puppet.Write(at, [1, 2, 3]); // so that it is dumped whole
        using (FileStream file = File.OpenWrite(path)) file.SetLength((long)(2 * Page));
        string core = NewName();
        JsonElement report = Tool.Json($"snapshot {puppet.Pid} -o {core} --json");
        Assert.Equal($"0x{at + 2 * Page:x}", Assert.Single(report.GetProperty("unreadable").EnumerateArray()).GetProperty("start").GetString());
        using var image = new CoreImage(core);
        Assert.Equal([1, 2, 3, 0x5a], image.Read(at, 4));
        Assert.Equal([0x5a], image.Read(at + Page, 1));
        Assert.Null(image.Read(at + 2 * Page, 1));
    }

    [Fact]
    public void Shared_memory_is_in_it_and_what_its_file_has_lost_is_missing()
    {
        Puppet puppet = NewPuppet();
        string path = NewName();
        File.WriteAllBytes(path, new byte[8 * Page]);
        int fd = puppet.OpenFile(path);
        ulong file = puppet.Map(8 * Page, Prot.ReadWrite, MapFlags.Shared, fd: fd), shared = puppet.Map(64 * MiB, Prot.ReadWrite, MapFlags.Shared);
        puppet.Fill(file, 8 * Page, 1);
        puppet.Fill(shared + 8 * MiB, MiB, 2);
        using (FileStream cut = File.OpenWrite(path)) cut.SetLength((long)(3 * Page));
        string core = NewName();
        JsonElement report = Tool.Json($"snapshot {puppet.Pid} -o {core} --full --json");
        JsonElement lost = Assert.Single(report.GetProperty("unreadable").EnumerateArray());
        Assert.Equal(($"0x{file + 3 * Page:x}", $"0x{file + 8 * Page:x}"), (lost.GetProperty("start").GetString(), lost.GetProperty("end").GetString()));
        using var image = new CoreImage(core);
        image.AssertContent(file, 3 * Page, 1);
        for (ulong page = 3; page < 8; page++) Assert.Null(image.Read(file + page * Page, 1));
        image.AssertContent(shared + 8 * MiB, MiB, 2);
        Assert.Equal(new byte[MiB], image.Read(shared + 32 * MiB, (int)MiB));
        Assert.InRange(report.GetProperty("memory_bytes").GetUInt64(), MiB, 48 * MiB); // what nobody has touched is not read
    }

    [Fact]
    public void What_a_fork_does_not_keep_is_in_it()
    {
        Borrow(new HugePages(4));
        Puppet puppet = NewPuppet();
        ulong wiped = puppet.MapFilled(MiB, 1), left = puppet.MapFilled(MiB, 2), huge = puppet.Map(4 * MiB, flags: MapFlags.HugeTlb);
        puppet.Fill(huge, 4 * MiB, 3);
        puppet.Must(puppet.Advise(wiped, MiB, Madv.WipeOnFork), "madvise");
        puppet.Must(puppet.Advise(left, MiB, Madv.DontFork), "madvise");
        string core = NewName();
        Succeeds(Tool.Run($"snapshot {puppet.Pid} -o {core}"));
        using var image = new CoreImage(core);
        image.AssertContent(wiped, MiB, 1);
        image.AssertContent(left, MiB, 2);
        image.AssertContent(huge, 4 * MiB, 3);
    }

    [Fact]
    public void The_filter_decides()
    {
        Puppet puppet = NewPuppet();
        string file = NewName();
        byte[] content = [.. Enumerable.Range(0, (int)(2 * Page)).Select(i => (byte)(i * 7 + 1))];
        File.WriteAllBytes(file, content);
        int fd = puppet.OpenFile(file);
        ulong mapped = puppet.Map(2 * Page, Prot.Read, MapFlags.Private, fd: fd), own = puppet.MapFilled(MiB, 1), hidden = puppet.MapFilled(MiB, 2),
            shared = puppet.Map(MiB, Prot.ReadWrite, MapFlags.Shared);
        puppet.Fill(shared, MiB, 3);
        puppet.Must(puppet.Advise(hidden, MiB, Madv.DontDump), "madvise");
        Vma text = Text(puppet.Pid);

        CoreImage Dump(string options)
        {
            string core = NewName();
            Succeeds(Tool.Run($"snapshot {puppet.Pid} -o {core} {options}"));
            return Borrow(new CoreImage(core));
        }

        CoreImage usual = Dump(""), full = Dump("--full"), little = Dump("--filter 0x2"), all = Dump("--include-dontdump");
        usual.AssertContent(own, MiB, 1);
        usual.AssertContent(shared, MiB, 3);
        Assert.Null(usual.Read(hidden, 1));
        Assert.Null(usual.Read(mapped, 1));
        Assert.Null(usual.Read(text.Range.Start, 1));
        Assert.Equal((byte[])[0x7f, (byte)'E', (byte)'L', (byte)'F'], usual.Read(Smaps.ReadMaps(puppet.Pid)[0].Range.Start, 4));
        Assert.Equal(content, full.Read(mapped, content.Length));
        using (FileStream program = File.OpenRead(Theatre.Program("puppet")))
        {
            byte[] code = new byte[Page];
            program.Position = (long)text.Offset;
            program.ReadExactly(code);
            Assert.Equal(code, full.Read(text.Range.Start, code.Length));
        }
        Assert.Null(full.Read(hidden, 1));
        Assert.Null(little.Read(own, 1));
        little.AssertContent(shared, MiB, 3);
        all.AssertContent(hidden, MiB, 2);
    }

    /// <summary>Only what the core will hold is copied while the process stands still, and counts.</summary>
    [Fact]
    public void Shared_memory_that_the_filter_leaves_out_is_not_copied()
    {
        Puppet puppet = NewPuppet();
        string path = NewName();
        File.WriteAllBytes(path, new byte[8 * MiB]);
        ulong file = puppet.Map(8 * MiB, Prot.ReadWrite, MapFlags.Shared, fd: puppet.OpenFile(path)), hidden = puppet.Map(8 * MiB, Prot.ReadWrite, MapFlags.Shared),
            ring = puppet.Map(MiB, Prot.ReadWrite, MapFlags.Shared);
        puppet.Fill(file, 8 * MiB, 1);
        puppet.Fill(hidden, 8 * MiB, 2);
        puppet.Fill(ring, MiB, 3);
        puppet.Must(puppet.Advise(hidden, 8 * MiB, Madv.DontDump), "madvise");

        string core = NewName();
        Succeeds(Tool.Run($"snapshot {puppet.Pid} -o {core} --max-shared 4M"));
        using (var image = new CoreImage(core))
        {
            image.AssertContent(ring, MiB, 3);
            Assert.Null(image.Read(file, 1));
            Assert.Null(image.Read(hidden, 1));
        }
        Succeeds(Tool.Run($"snapshot {puppet.Pid} -o {core} --force --max-shared 4M --filter 0x31"));
        foreach (string more in (string[])["--filter 0x3b", "--full", "--include-dontdump", "--keep"])
        {
            AssertOneLine(1, "EFBIG: there are more than 4194304 bytes of shared memory", Tool.Run($"snapshot {puppet.Pid} -o {core} --force --max-shared 4M {more}"));
        }
        Succeeds(Tool.Run($"snapshot {puppet.Pid} -o {core} --force --max-shared 12M --filter 0x3b"));
        using var all = new CoreImage(core);
        all.AssertContent(file, 8 * MiB, 1);
    }

    [Fact]
    public void Ranges_of_which_nothing_is_mapped_are_an_error_and_others_a_note()
    {
        Puppet puppet = NewPuppet();
        ulong at = puppet.MapFilled(3 * MiB, 1);
        puppet.Unmap(at + MiB, MiB);
        string folder = Theatre.NewFolder($"core-{Guid.NewGuid():N}"), core = $"{folder}/core";
        foreach (string end in (string[])[$"-o {core}", "--keep"])
        {
            AssertOneLine(1, "[1000-2000]: EFAULT: nothing is mapped there", Tool.Run($"snapshot {puppet.Pid} {end} --range 0x1000+4096"));
            AssertOneLine(1, $"[{at + MiB:x}-{at + MiB + Page:x}]: EFAULT: nothing is mapped there",
                Tool.Run($"snapshot {puppet.Pid} {end} --range 0x{at:x}+4096 --range 0x{at + MiB:x}+4096"));
        }
        Assert.Empty(Directory.GetFileSystemEntries(folder));
        Assert.DoesNotContain(Snapshot.Running(), listing => listing.ProcessId == puppet.Pid);

        ToolResult result = Tool.Run($"snapshot {puppet.Pid} -o {core} --range 0x{at:x}+3M");
        Succeeds(result);
        Assert.Contains($"note: 1 MiB of what was asked for is not mapped: {at + MiB:x}-{at + 2 * MiB:x}\n", result.Output, StringComparison.Ordinal);
        using var image = new CoreImage(core);
        image.AssertContent(at, MiB, 1);
        image.AssertContent(at + 2 * MiB, MiB, 1, 2 * MiB / Page);
        JsonElement report = Tool.Json($"snapshot {puppet.Pid} -o {core} --force --json --range 0x{at:x}+3M");
        Assert.Contains("is not mapped", Assert.Single(report.GetProperty("notes").EnumerateArray()).GetString(), StringComparison.Ordinal);
    }

    /// <summary>More than a file of most file systems can be long, and than anybody waits for in a pipe.</summary>
    [Fact]
    public void A_reserve_of_writable_memory_takes_no_room()
    {
        Machine.RequireProgram("gdb");
        const ulong Reserve = 20UL << 40;
        Puppet puppet = NewPuppet();
        ulong at = puppet.Map(Reserve, flags: MapFlags.NoReserve), middle = at + Reserve / 2;
        puppet.Fill(middle, Page, 1);
        string core = NewName(), piped = NewName();
        JsonElement report = Tool.Json($"snapshot {puppet.Pid} -o {core} --json");
        Assert.InRange(report.GetProperty("core_bytes").GetUInt64(), Page, 512 * MiB);
        Shell($"'{Tool.Path}' snapshot {puppet.Pid} -o - > {piped}");
        foreach (string name in (string[])[core, piped])
        {
            using var image = new CoreImage(name);
            image.AssertContent(middle, Page, 1);
            Assert.Null(image.Read(at, 1));
            Assert.DoesNotContain("arning", Theatre.Run("readelf", "-lnW", name).Output, StringComparison.Ordinal);
            string shown = Theatre.Run("gdb", "-nx", "-batch", "-ex", Invariant($"x/gx 0x{at:x}"), "-ex", Invariant($"x/gx 0x{middle:x}"), "-ex", Invariant($"x/gx 0x{middle + Page:x}"),
                "-ex", Invariant($"x/gx 0x{at + Reserve - 8:x}"), "-c", name).Output;
            foreach ((ulong address, ulong word) in ((ulong, ulong)[])[(at, 0), (middle, Pattern.FirstWord(1, 0)), (middle + Page, 0), (at + Reserve - 8, 0)])
                Assert.Contains($"0x{address:x}:\t0x{word:x16}", shown, StringComparison.Ordinal);
        }
        Assert.InRange(new FileInfo(piped).Length, (long)Page, 512L << 20);
    }

    /// <summary>What lies behind the end of a mapped file is found before the headers are out, and the page of length 0 that the runtime maps is nothing at all.</summary>
    [Fact]
    public void Of_a_dotnet_process_everything_goes_through_a_pipe_without_a_warning()
    {
        Actor app = NewActor(Theatre.HeapApp);
        Assert.Contains(Smaps.ReadMaps(app.Pid), vma => vma.Name.Contains("dotnet_ipc_created", StringComparison.Ordinal));
        Succeeds(Tool.Run($"snapshot {app.Pid} -o {NewName()}.zst --full"));

        Puppet puppet = NewPuppet();
        string path = NewName(), piped = NewName();
        File.WriteAllBytes(path, Enumerable.Repeat((byte)0x5a, (int)(2 * Page)).ToArray());
        ulong at = puppet.Map(8 * Page, Prot.Read, MapFlags.Private, fd: puppet.OpenFile(path));
        (int code, string output) = Theatre.Run("sh", "-c", $"'{Tool.Path}' snapshot {puppet.Pid} -o - --full > {piped}");
        Assert.Equal((0, $"note: 24 KiB cannot be read by anyone and is not in the file: {at + 2 * Page:x}-{at + 8 * Page:x}\n"), (code, output));
        using var image = new CoreImage(piped);
        Assert.Equal([0x5a], image.Read(at + 2 * Page - 1, 1));
        Assert.Single(image.Loads, load => load.Range.Overlaps(new PageRange(at, at + 8 * Page)));
        Assert.DoesNotContain(image.Loads, load => load.Range.Overlaps(new PageRange(at + 2 * Page, at + 8 * Page)));
    }

    [Fact]
    public void What_is_wrong_with_the_output_is_said_of_the_name_that_was_given()
    {
        Puppet puppet = NewPuppet();
        string folder = Theatre.NewFolder($"core-{Guid.NewGuid():N}"), core = $"{folder}/core";
        AssertOneLine(1, "write /proc/x: ENOENT: no files can be made there", Tool.Run($"snapshot {puppet.Pid} -o /proc/x"));
        string longest = $"{folder}/{new string('n', 255)}";
        Succeeds(Tool.Run($"snapshot {puppet.Pid} -o {longest} --force"));
        AssertOneLine(1, $"write {longest}n: ENAMETOOLONG: ", Tool.Run($"snapshot {puppet.Pid} -o {longest}n --force"));
        (int code, string output) = Theatre.Run("sh", "-c", $"'{Tool.Path}' snapshot {puppet.Pid} -o ''");
        Assert.Equal((2, "pvmmap: snapshot: --output: the name is empty; name a file, or write - for standard output\n"), (code, output));
        (code, output) = Theatre.Run("sh", "-c", $"'{Tool.Path}' snapshot {puppet.Pid} -o {core} >&-");
        Assert.Equal((1, $"pvmmap: snapshot: {core} is whole, but that could not be told: standard output is closed, or cannot be written to\n"), (code, output));
        using (var image = new CoreImage(core)) Assert.NotEmpty(image.Loads);
        File.Delete(longest);

        Machine.RequireRoot();
        string fixture = Theatre.NewFolder($"fixed-{Guid.NewGuid():N}");
        Borrow(new Restoration($"! grep -q ' {fixture} ' /proc/mounts || umount {fixture}"));
        (code, output) = Theatre.Run("mount", "-t", "tmpfs", "-o", "ro", "none", fixture);
        Machine.Require(code == 0, $"needs to mount a tmpfs: {output}");
        AssertOneLine(1, $"write {fixture}/core: EROFS: the file system is mounted read-only", Tool.Run($"snapshot {puppet.Pid} -o {fixture}/core"));
    }

    [Fact]
    public void Only_the_ranges_that_were_asked_for()
    {
        Puppet puppet = NewPuppet();
        ulong first = puppet.MapFilled(4 * MiB, 1), second = puppet.MapFilled(4 * MiB, 2), third = puppet.MapFilled(4 * MiB, 3);
        string core = NewName();
        Succeeds(Tool.Run($"snapshot {puppet.Pid} -o {core} --range 0x{first:x}+4M --range 0x{third + MiB:x}+1M"));
        using var image = new CoreImage(core);
        image.AssertContent(first, 4 * MiB, 1);
        image.AssertContent(third + MiB, MiB, 3, MiB / Page);
        Assert.Null(image.Read(second, 1));
        Assert.InRange(new FileInfo(core).Length, 5L << 20, 6L << 20);
    }

    [Theory]
    [InlineData("gz", "gzip")]
    [InlineData("zst", "zstd")]
    public void Compressed_it_is_the_same(string suffix, string program)
    {
        Machine.RequireProgram(program);
        (Actor actor, ulong data) = Start(Program.Idlers);
        string plain = NewName(), zipped = NewName() + "." + suffix, piped = NewName();
        Succeeds(Tool.Run($"snapshot {actor.Pid} -o {plain}"));
        JsonElement report = Tool.Json($"snapshot {actor.Pid} -o {zipped} --json");
        Assert.Equal(program, report.GetProperty("compression").GetString());
        Assert.Equal((ulong)new FileInfo(zipped).Length, report.GetProperty("output_bytes").GetUInt64());
        Shell($"{program} -t {zipped} && {program} -dc {zipped} > {piped}");
        AssertContent(piped);
        Shell($"'{Tool.Path}' snapshot {actor.Pid} -o - --compress {program} | {program} -dc > {piped}");
        AssertContent(piped);
        Shell($"'{Tool.Path}' snapshot {actor.Pid} -o - | gzip -1 | gzip -dc > {piped}");
        AssertContent(piped);

        void AssertContent(string core)
        {
            using var image = new CoreImage(core);
            image.AssertContent(data, 4 * MiB, 1);
            // Not byte by byte: each snapshot has the kernel write anew where the threads ran (rseq).
            Assert.Equal(new FileInfo(plain).Length, new FileInfo(core).Length);
        }
    }

    [Fact]
    public void On_a_full_disk_there_is_one_line_and_no_file()
    {
        Machine.RequireRoot();
        string folder = Theatre.NewFolder($"full-{Guid.NewGuid():N}");
        Borrow(new Restoration($"! grep -q ' {folder} ' /proc/mounts || umount {folder}"));
        (int code, string output) = Theatre.Run("mount", "-t", "tmpfs", "-o", "size=16m", "none", folder);
        Machine.Require(code == 0, $"needs to mount a tmpfs: {output}");
        Puppet puppet = NewPuppet();
        puppet.MapFilled(32 * MiB, 1);
        foreach (string name in (string[])["core", "core.gz", "core.zst"])
        {
            AssertOneLine(1, "ENOSPC: no space is left there", Tool.Run($"snapshot {puppet.Pid} -o {folder}/{name}"));
            Assert.Empty(Directory.GetFileSystemEntries(folder));
        }
        var e = Assert.Throws<PvmmapException>(() =>
        {
            using Snapshot snapshot = Snapshot.Capture(puppet.Pid);
            CoreDump.Write(snapshot, $"{folder}/core", cancellation: TestContext.Current.CancellationToken);
        });
        Assert.Equal(Errno.ENOSPC, e.Errno);
        Assert.Empty(Directory.GetFileSystemEntries(folder));
    }

    [Fact]
    public void Over_the_limit_of_file_sizes_there_is_one_line_and_no_file()
    {
        Machine.RequireProgram("prlimit");
        Puppet puppet = NewPuppet();
        puppet.MapFilled(32 * MiB, 1);
        string folder = Theatre.NewFolder($"core-{Guid.NewGuid():N}");
        AssertOneLine(1, "EFBIG", Tool.Run(Theatre, ["prlimit", "--fsize=1048576"], $"snapshot {puppet.Pid} -o {folder}/core"));
        Assert.Empty(Directory.GetFileSystemEntries(folder));
    }

    [Theory]
    [InlineData(9)]
    [InlineData(2)]
    [InlineData(15)]
    public void Ended_in_the_middle_it_leaves_no_file(int signal)
    {
        Puppet puppet = NewPuppet();
        ulong at = puppet.MapFilled(256 * MiB, 1);
        string folder = Theatre.NewFolder($"core-{Guid.NewGuid():N}");
        using Tool tool = Tool.Start($"snapshot {puppet.Pid} -o {folder}/core --compress gzip");
        // it has no name: only the descriptor shows how far it has got
        Eventually.Holds(() => Unnamed(tool.Pid, folder) > (long)MiB, "the file is being written");
        Libc.Kill(tool.Pid, signal);
        ToolResult result = tool.Finish();
        if (signal != 9) AssertOneLine(1, "interrupted; nothing was written", result);
        else Assert.Equal(128 + 9, result.Code);
        Assert.Empty(Directory.GetFileSystemEntries(folder));
        puppet.AssertContent(at, MiB, 1);
    }

    [Fact]
    public void A_file_that_is_there_is_replaced_only_by_force()
    {
        Puppet puppet = NewPuppet();
        string core = NewName();
        File.WriteAllText(core, "precious");
        AssertOneLine(1, "EEXIST: it is there already; ", Tool.Run($"snapshot {puppet.Pid} -o {core}"));
        Assert.Equal("precious", File.ReadAllText(core));
        Succeeds(Tool.Run($"snapshot {puppet.Pid} -o {core} --force"));
        Assert.Equal([core], Directory.GetFileSystemEntries(Path.GetDirectoryName(core)!));
        using var image = new CoreImage(core);
        Assert.NotEmpty(image.Loads);
        AssertOneLine(1, "no regular file", Tool.Run($"snapshot {puppet.Pid} -o /dev/null --force"));
        AssertOneLine(1, "ENOENT: there is no such folder", Tool.Run($"snapshot {puppet.Pid} -o /nowhere/core"));
    }

    [Fact]
    public void It_does_not_write_to_a_terminal_and_ends_with_its_reader()
    {
        Machine.RequireProgram("script");
        Puppet puppet = NewPuppet();
        (int code, string output) = Theatre.Run("script", "-qec", $"{Tool.Path} snapshot {puppet.Pid} -o -", "/dev/null");
        Assert.Equal(2, code);
        Assert.EndsWith(
            "pvmmap: snapshot: standard output is a terminal, which a core file would garble; redirect it, or name a file with -o", output.Trim(),
            StringComparison.Ordinal);
        puppet.MapFilled(8 * MiB, 1);
        (_, output) = Theatre.Run("sh", "-c", $"'{Tool.Path}' snapshot {puppet.Pid} -o - | head -c 10 > /dev/null");
        Assert.Equal("pvmmap: write standard output: EPIPE: the reader has ended\n", output);
    }

    [Fact]
    public void In_a_pipe_there_are_plain_lines_and_no_progress()
    {
        Puppet puppet = NewPuppet();
        puppet.MapFilled(8 * MiB, 1);
        string core = NewName();
        ToolResult result = Tool.Run($"snapshot {puppet.Pid} -o {core}");
        Assert.Equal((0, ""), (result.Code, result.Errors));
        Assert.Matches(@"^[\d.]+ MiB of process \d+ in .*\nprocess stopped .*, file written in .* \(.*/s\)\n", result.Output);
        Assert.DoesNotContain('\e', result.Output);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(core));
    }

    private (Actor Actor, ulong Data) Start(Program program)
    {
        if (program == Program.Threads)
        {
            Actor threads = NewActor(Theatre.Program("threads"));
            return (threads, ulong.Parse(threads.Answer()[0], CultureInfo.InvariantCulture));
        }
        if (program == Program.Python)
        {
            Machine.RequireProgram("python3");
            (int code, string python) = Theatre.Run("python3", "-c", "import sys; print(sys.executable)");
            Assert.Equal(0, code);
            Actor notebook = NewActor(python.Trim(), Path.Combine(Theatre.RepositoryRoot, "tests/programs/notebook.py"));
            return (notebook, ulong.Parse(notebook.Ask($"data {MiB} 42")[0], CultureInfo.InvariantCulture));
        }
        Puppet puppet = NewPuppet();
        puppet.StartIdlers(8);
        return (puppet, puppet.MapFilled(4 * MiB, 1));
    }

    /// <summary>Stacks, registers of every kind, memory, auxiliary vector and mappings as gdb shows them.</summary>
    private static string[] Gdb(string program, string core, ulong data)
    {
        Machine.RequireProgram("gdb");
        string[] commands =
        [
            "echo \\n-----\\n", "thread apply all bt", "thread apply all info all-registers", "info proc mappings", "info auxv", "info sharedlibrary",
            Invariant($"x/64gx 0x{data:x}"), Invariant($"x/8gx 0x{data + Page:x}"), "x/16gx $sp", "x/4i $pc",
        ];
        (int code, string output) = Theatre.Run("gdb",
            [
                "-nx", "-batch", "-iex", "set auto-load off", "-iex", "set debuginfod enabled off", program, core,
                .. commands.SelectMany(command => (string[])["-ex", command]),
            ]);
        Assert.True(code == 0, output);
        Assert.DoesNotContain("warning", output, StringComparison.Ordinal);
        string[] lines = output.Split('\n');
        return lines[(Array.IndexOf(lines, "-----") + 1)..];
    }

    private static Vma Text(int pid) => Smaps.ReadMaps(pid).First(vma => vma.Permissions == "r-xp" && vma.Name.EndsWith("/puppet", StringComparison.Ordinal));

    /// <summary>Bytes of the file without a name that a process has open in a folder; 0 if there is none.</summary>
    private static long Unnamed(int pid, string folder)
    {
        try
        {
            foreach (string entry in Directory.EnumerateFileSystemEntries($"/proc/{pid}/fd"))
            {
                if (new FileInfo(entry).LinkTarget?.StartsWith(folder + "/", StringComparison.Ordinal) != true) continue;
                using FileStream file = new(entry, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
                return file.Length;
            }
        }
        catch (IOException)
        {
            // a descriptor that was closed meanwhile
        }
        return 0;
    }

    private string NewName() => Path.Combine(Theatre.NewFolder($"core-{Guid.NewGuid():N}"), "core");

    private static void Succeeds(ToolResult result) => Assert.Equal((0, ""), (result.Code, result.Errors));

    private static void Shell(string line)
    {
        (int code, string output) = Theatre.Run("bash", "-c", $"set -o pipefail; {line}");
        Assert.True(code == 0, $"{line}: {code} {output}");
    }

    private static void AssertOneLine(int code, string expected, ToolResult result)
    {
        Assert.Equal((code, ""), (result.Code, result.Output));
        Assert.StartsWith("pvmmap: ", result.Errors, StringComparison.Ordinal);
        Assert.Contains(expected, result.Errors, StringComparison.Ordinal);
        Assert.Single(result.Errors.TrimEnd().Split('\n'));
    }

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    /// <summary>Every thread of a process stands still, by SIGSTOP, until this is disposed.</summary>
    private sealed class Halt : IDisposable
    {
        private readonly int _pid;

        public Halt(int pid)
        {
            _pid = pid;
            Libc.Kill(pid, Libc.SIGSTOP);
            Eventually.Holds(() => Directory.EnumerateDirectories($"/proc/{pid}/task").All(IsStopped), $"process {pid} is stopped");
        }

        public void Dispose() => Libc.Kill(_pid, Libc.SIGCONT);

        private static bool IsStopped(string task)
        {
            string stat = File.ReadAllText($"{task}/stat");
            return stat[stat.LastIndexOf(')') + 2] == 'T';
        }
    }
}
