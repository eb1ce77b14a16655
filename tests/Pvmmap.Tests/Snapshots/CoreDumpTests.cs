using System.Text;
using Pvmmap.Snapshots;
using Xunit;

namespace Pvmmap.Tests.Snapshots;

/// <summary>The core file, read by the book.</summary>
[System.Runtime.Versioning.SupportedOSPlatform("linux")]
public sealed class CoreDumpTests
{
    private const ulong At = 0x7f0000000000, Page = FakeCoreSource.Page;

    [Fact]
    public void Every_mapping_has_its_segment_and_every_page_its_content()
    {
        var source = new FakeCoreSource();
        source.Map(0x400000, 3, "r-xp", "/bin/true", 7, "rd ex mr mw me", SnapshotContent.File);
        source.Map(At, 1000);
        source.Fill(At, 3);
        source.Fill(At + 990 * Page, 10);
        source.Map(At + 2000 * Page, 1, "r--p");
        source.Fill(At + 2000 * Page);
        (CoreFile core, CoreDumpResult result) = Dump(source);

        Assert.Equal([(4U, 0U), (1U, 5U), (1U, 6U), (1U, 4U)], core.Headers.Select(header => (header.Type, header.Flags)));
        Assert.Equal([(0x400000UL, Page, 3 * Page), (At, 1000 * Page, 1000 * Page), (At + 2000 * Page, Page, Page)],
            core.Loads.Select(load => (load.Address, load.FileBytes, load.MemoryBytes)));
        Assert.All(core.Loads, load => Assert.Equal(0UL, load.Offset % Page));
        Assert.Equal("ELF", Encoding.ASCII.GetString(core.Read(0x400001, 3)!));
        Assert.Null(core.Read(0x401000, 1));
        foreach (ulong page in (ulong[])[0, 2, 990, 999, 2000]) Assert.Equal(FakeCoreSource.Content(At + page * Page), core.Read(At + page * Page, (int)Page));
        Assert.Equal(new byte[987 * Page], core.Read(At + 3 * Page, (int)(987 * Page)));
        Assert.Equal(15 * Page, result.MemoryBytes);
        Assert.Equal(3, result.Segments);
        Assert.Empty(result.Unreadable);
    }

    [Fact]
    public void A_pipe_gets_the_same_bytes_as_a_file()
    {
        FakeCoreSource source = Sparse();
        using var file = new MemoryStream();
        using var pipe = new Pipe();
        CoreDump.Write(source, file, new(), null, Cancel);
        CoreDump.Write(source, pipe, new(), null, Cancel);
        Assert.Equal(file.ToArray(), pipe.Bytes);
    }

    [Fact]
    public void What_was_in_the_stream_does_not_show_through_the_holes()
    {
        FakeCoreSource source = Sparse();
        using var file = new MemoryStream();
        file.Write(Enumerable.Repeat((byte)0xee, 16 << 20).ToArray());
        file.Position = 100;
        CoreDump.Write(source, file, new(), null, Cancel);
        using var clean = new MemoryStream();
        CoreDump.Write(source, clean, new(), null, Cancel);
        Assert.Equal(Enumerable.Repeat((byte)0xee, 100), file.ToArray()[..100]);
        Assert.Equal(clean.ToArray(), file.ToArray()[100..]);
        Assert.Equal(file.Length, file.Position);
    }

    [Fact]
    public void Untouched_memory_and_pages_of_zeros_are_holes_in_a_file()
    {
        FakeCoreSource source = Sparse(); // 8 MiB of addresses, 20 pages touched
        string path = NewName();
        CoreDumpResult result = CoreDump.Write(source, path, new(), null, Cancel);
        Assert.True(result.CoreBytes > 8 << 20);
        Assert.Equal((long)result.CoreBytes, new FileInfo(path).Length);
        Assert.Equal(20 * Page, result.MemoryBytes);
        Assert.InRange(result.OutputBytes!.Value, 20 * Page, 40 * Page);
        Assert.InRange(source.Reads, 1, 40); // what was never touched is not read
        File.Delete(path);
    }

    [Theory]
    [InlineData(0, 1)]
    [InlineData(5, 1)]
    [InlineData(9, 1)]
    [InlineData(3, 4)]
    [InlineData(0, 10)]
    [InlineData(255, 3)] // the chunk's border
    public void Pages_that_cannot_be_read_are_missing_and_never_zeros(ulong first, ulong count)
    {
        var source = new FakeCoreSource();
        ulong pages = first < 10 ? 10UL : 600;
        source.Map(At - 4 * Page, 4);
        source.Map(At, pages);
        source.Fill(At, pages);
        source.Poison(At + first * Page, count);
        (CoreFile core, CoreDumpResult result) = Dump(source);
        PageRange lost = new(At + first * Page, At + (first + count) * Page);
        Assert.Equal([lost], result.Unreadable);
        Assert.False(result.UnreadableAsZeros);
        Assert.Equal((pages - count) * Page, result.MemoryBytes);
        for (ulong page = 0; page < pages; page++)
        {
            ulong address = At + page * Page;
            byte[]? expected = lost.Start <= address && address < lost.End ? null : FakeCoreSource.Content(address);
            Assert.Equal(expected, core.Read(address, (int)Page));
        }
        // no header tells of them, for gdb would show zeros; all other addresses are told of once
        Assert.DoesNotContain(core.Loads, load => lost.Overlaps(new(load.Address, load.Address + load.MemoryBytes)));
        Assert.Equal((pages + 4 - count) * Page, core.Loads.Aggregate(0UL, (sum, load) => sum + load.MemoryBytes));
        Assert.Equal(core.Loads.OrderBy(load => load.Address), core.Loads);
        Assert.Equal(core.Count, (uint)result.Segments + 1);
    }

    [Fact]
    public void Pages_lost_before_the_snapshot_are_missing_too()
    {
        var source = new FakeCoreSource();
        source.Map(At, 100);
        source.Fill(At + 10 * Page, 5);
        source.Lose(At + 50 * Page, 3);
        source.Lose(At + 15 * Page, 1); // next to what is there
        source.Map(At + 100 * Page, 100, "rw-s", "/memfd:x (deleted)", 7);
        source.Lose(At + 190 * Page, 10);
        (CoreFile core, CoreDumpResult result) = Dump(source);
        Assert.Equal([new(At + 15 * Page, At + 16 * Page), new(At + 50 * Page, At + 53 * Page), new PageRange(At + 190 * Page, At + 200 * Page)], result.Unreadable);
        Assert.Null(core.Read(At + 15 * Page, 1));
        Assert.Null(core.Read(At + 52 * Page, 1));
        Assert.Null(core.Read(At + 190 * Page, 1));
        Assert.Equal(FakeCoreSource.Content(At + 14 * Page), core.Read(At + 14 * Page, (int)Page));
        Assert.Equal(new byte[34 * Page], core.Read(At + 16 * Page, (int)(34 * Page)));
        Assert.Equal(5 * Page, result.MemoryBytes);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void What_lies_behind_the_end_of_a_mapped_file_is_known_before_the_headers_are_out(bool isFile)
    {
        var source = new FakeCoreSource { Identity = new() { ProcessId = 4711, CoreDumpFilter = (uint)CoreFilter.All } };
        source.Map(At, 600, "r--p", "/var/lib/short", 7, "rd mr mw me", SnapshotContent.File);
        source.Poison(At + 3 * Page, 597);
        source.Map(At + 600 * Page, 8, "r--s", "/var/lib/empty", 8, "rd sh mr me ms", SnapshotContent.File);
        source.Poison(At + 600 * Page, 8);
        source.Map(At + 700 * Page, 4, "rw-s", "/dev/shm/cut", 9, "rd wr sh mr mw me ms");
        source.Fill(At + 700 * Page);
        source.Lose(At + 701 * Page, 3);
        (CoreFile core, CoreDumpResult result) = Dump(source, isFile);
        Assert.Equal([new(At + 3 * Page, At + 608 * Page), new PageRange(At + 701 * Page, At + 704 * Page)], result.Unreadable);
        Assert.False(result.UnreadableAsZeros);
        Assert.Equal([(At, 3 * Page, 3 * Page), (At + 700 * Page, Page, Page)], core.Loads.Select(load => (load.Address, load.FileBytes, load.MemoryBytes)));
        Assert.Equal(4 * Page, result.MemoryBytes);
        Assert.Equal(FakeCoreSource.Content(At + 2 * Page)[8..], core.Read(At + 2 * Page, (int)Page)![8..]);
        Assert.InRange(source.Reads, 1, 700); // not page by page, and again
    }

    /// <summary>A page that is lost in the middle of a file is not the file's end.</summary>
    [Theory]
    [InlineData(49, 1)]
    [InlineData(30, 40)]
    public void A_poisoned_page_of_a_file_hides_none_behind_it(ulong first, ulong count)
    {
        var source = new FakeCoreSource { Identity = new() { ProcessId = 4711, CoreDumpFilter = (uint)CoreFilter.All } };
        source.Map(At, 100, "r--p", "/var/lib/long", 7, "rd mr mw me", SnapshotContent.File);
        source.Poison(At + first * Page, count);
        source.Poison(At + 99 * Page);
        (CoreFile core, CoreDumpResult result) = Dump(source);
        Assert.Equal([new(At + first * Page, At + (first + count) * Page), new PageRange(At + 99 * Page, At + 100 * Page)], result.Unreadable);
        for (ulong page = 0; page < 100; page++)
            Assert.Equal(result.Unreadable.Any(lost => lost.Start <= At + page * Page && At + page * Page < lost.End), core.Read(At + page * Page, 1) is null);
    }

    [Fact]
    public void A_page_of_a_file_that_the_process_may_not_touch_is_told_of_only()
    {
        var source = new FakeCoreSource { Identity = new() { ProcessId = 4711, CoreDumpFilter = (uint)CoreFilter.All } };
        source.Map(At, 1, "---p", "/memfd:dotnet_ipc_created (deleted)", 7, "mr mw me", SnapshotContent.File); // of length 0
        source.Poison(At);
        source.Map(At + Page, 2, "---p", "/usr/lib/hidden.so", 8, "mr mw me", SnapshotContent.File);
        source.Fill(At + Page);
        using var pipe = new Pipe();
        CoreDumpResult result = CoreDump.Write(source, pipe, new(), null, Cancel);
        Assert.Empty(result.Unreadable);
        var core = new CoreFile(pipe.Bytes);
        Assert.Equal([(At, 0UL, Page), (At + Page, 2 * Page, 2 * Page)], core.Loads.Select(load => (load.Address, load.FileBytes, load.MemoryBytes)));
        Assert.Equal(FakeCoreSource.Content(At + Page), core.Read(At + Page, (int)Page));
    }

    [Fact]
    public void Much_untouched_memory_takes_no_room_in_the_file()
    {
        const ulong Gap = 1UL << 30, Whole = 20UL << 40;
        var source = new FakeCoreSource();
        source.Map(At, Whole / Page);
        source.Fill(At + Page);
        source.Fill(At + Gap / 2, 2);
        source.Fill(At + Gap * 3, 3);
        source.Map(At + Whole, Gap / Page); // not a page touched
        source.Map(At + Whole + Gap, 4);
        source.Fill(At + Whole + Gap, 4);
        string path = NewName();
        CoreDumpResult result = CoreDump.Write(source, path, new(), null, Cancel);
        Assert.InRange(result.CoreBytes, Gap / 2, Gap);
        Assert.Equal(10 * Page, result.MemoryBytes);
        using FileStream file = File.OpenRead(path);
        byte[] start = new byte[Page];
        file.ReadExactly(start);
        CoreFile core = CoreFile.Headed(start);
        Assert.Equal(
            [
                (At, Gap / 2 + 2 * Page, Gap * 3), (At + Gap * 3, 3 * Page, Whole - Gap * 3), (At + Whole, 0, Gap), (At + Whole + Gap, 4 * Page, 4 * Page),
            ],
            core.Loads.Select(load => (load.Address, load.FileBytes, load.MemoryBytes)));
        Assert.Equal(core.Loads.Count(), result.Segments);
        byte[] page = new byte[Page];
        foreach (ulong at in (ulong[])[At + Page, At + Gap / 2 + Page, At + Gap * 3 + 2 * Page, At + Whole + Gap + 3 * Page])
        {
            CoreFile.Header load = core.Loads.Single(load => load.Address <= at && at < load.Address + load.FileBytes);
            file.Position = (long)(load.Offset + at - load.Address);
            file.ReadExactly(page);
            Assert.Equal(FakeCoreSource.Content(at), page);
        }
        File.Delete(path);
    }

    /// <summary>The runtime's library for debuggers reads the runtime's own text and tables.</summary>
    [Theory]
    [InlineData("/usr/lib/dotnet/shared/Microsoft.NETCore.App/10.0.0/libcoreclr.so", 0x33, true)]
    [InlineData("/usr/lib/dotnet/shared/Microsoft.NETCore.App/10.0.0/libcoreclr.so (deleted)", 0x1, true)]
    [InlineData("/memfd:doublemapper (deleted)", 0x33, true)] // a single-file app
    [InlineData("/usr/lib/libcoreclr.so.txt", 0x33, false)]
    [InlineData("/usr/lib/libc.so.6", 0x33, false)]
    public void Of_a_dotnet_process_the_files_that_it_runs_are_dumped_too(string name, uint filter, bool expected)
    {
        var source = new FakeCoreSource { Identity = new() { ProcessId = 4711, CoreDumpFilter = filter } };
        source.Map(At, 4, "r-xp", "/usr/bin/app", 7, "rd ex mr mw me", SnapshotContent.File);
        source.Map(At + 8 * Page, 1, "r--p", name, 8, "rd mr mw me", SnapshotContent.File);
        Assert.Equal(expected, Dump(source).Core.Read(At + 2 * Page, 1) is not null);
        // what was asked for is what is there
        using var stream = new MemoryStream();
        CoreDump.Write(source, stream, new() { Filter = CoreFilter.AnonymousPrivate }, null, Cancel);
        Assert.Null(new CoreFile(stream.ToArray()).Read(At + 2 * Page, 1));
    }

    [Fact]
    public void In_a_pipe_the_result_tells_of_them()
    {
        var source = new FakeCoreSource();
        source.Map(At, 10);
        source.Fill(At, 10);
        source.Poison(At + 5 * Page);
        using var pipe = new Pipe();
        CoreDumpResult result = CoreDump.Write(source, pipe, new(), null, Cancel);
        Assert.Equal([new PageRange(At + 5 * Page, At + 6 * Page)], result.Unreadable);
        Assert.True(result.UnreadableAsZeros);
    }

    [Fact]
    public void Any_other_trouble_ends_it()
    {
        var source = new FakeCoreSource { Trouble = (At + 5 * Page, Errno.EAGAIN) };
        source.Map(At, 10);
        source.Fill(At, 10);
        using var file = new MemoryStream();
        Assert.Equal(Errno.EAGAIN, Assert.Throws<PvmmapException>(() => CoreDump.Write(source, file, new(), null, Cancel)).Errno);
    }

    [Fact]
    public void More_segments_than_the_header_can_count()
    {
        const uint Most = 0xffff;
        foreach (uint count in (uint[])[Most - 2, Most - 1, Most + 5])
        {
            var source = new FakeCoreSource();
            for (uint i = 0; i < count; i++) source.Map(At + 2 * i * Page, 1, "---p", flags: "");
            (CoreFile core, CoreDumpResult result) = Dump(source);
            Assert.Equal(count + 1 >= Most, core.IsExtended);
            Assert.Equal(count + 1, core.Count);
            Assert.Equal((int)count, result.Segments);
            Assert.Equal(At + 2 * (count - 1) * Page, core.Headers[^1].Address);
            Assert.Equal(3, core.Notes.Count); // they are where the first header says
        }
    }

    [Fact]
    public void Unreadable_pages_may_bring_the_headers_over_that_number()
    {
        const uint Count = 0xffff - 2;
        var source = new FakeCoreSource();
        for (uint i = 0; i < Count - 1; i++) source.Map(At + 2 * i * Page, 1, "---p", flags: "");
        source.Map(At + (1UL << 40), 3);
        source.Fill(At + (1UL << 40), 3);
        source.Poison(At + (1UL << 40) + Page);
        (CoreFile core, _) = Dump(source);
        Assert.True(core.IsExtended);
        Assert.Equal(Count + 2, core.Count);
        Assert.Equal(FakeCoreSource.Content(At + (1UL << 40) + 2 * Page), core.Read(At + (1UL << 40) + 2 * Page, (int)Page));
        Assert.Null(core.Read(At + (1UL << 40) + Page, 1));
    }

    [Fact]
    public void Progress_is_told_to_the_end_and_counts_memory_only()
    {
        var told = new Told();
        using var file = new MemoryStream();
        CoreDump.Write(Sparse(), file, new(), told, Cancel);
        Assert.NotEmpty(told.All);
        Assert.All(told.All, progress => Assert.Equal(20 * Page, progress.BytesTotal));
        Assert.Equal(told.All.Select(progress => progress.BytesDone).Order(), told.All.Select(progress => progress.BytesDone));
        Assert.Equal(20 * Page, told.All[^1].BytesDone);
    }

    [Fact]
    public void Cancelled_there_is_no_file()
    {
        string path = NewName();
        foreach (bool unnamed in (bool[])[true, false])
        {
            using var cancel = new CancellationTokenSource();
            Assert.ThrowsAny<OperationCanceledException>(() => CoreDump.Write(Sparse(), path, new(), new Act(cancel.Cancel), cancel.Token, unnamed));
            Assert.Empty(Beside(path));
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_file_has_its_name_only_when_it_is_whole(bool unnamed)
    {
        string path = NewName();
        CoreDump.Write(Sparse(), path, new(), new Act(() => Assert.False(File.Exists(path))), Cancel, unnamed);
        Assert.Equal([Path.GetFileName(path)], Beside(path));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(path));
        var e = Assert.Throws<PvmmapException>(() => CoreDump.Write(Sparse(), path, new(), null, Cancel, unnamed));
        Assert.Equal(Errno.EEXIST, e.Errno);

        byte[] before = File.ReadAllBytes(path);
        var source = new FakeCoreSource();
        CoreDump.Write(source, path, new() { Overwrite = true }, null, Cancel, unnamed);
        Assert.NotEqual(before, File.ReadAllBytes(path));
        Assert.Equal([Path.GetFileName(path)], Beside(path));
        File.Delete(path);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_name_that_was_taken_meanwhile_stays_anothers(bool unnamed)
    {
        string path = NewName();
        var e = Assert.Throws<PvmmapException>(() => CoreDump.Write(Sparse(), path, new(), new Act(() => File.WriteAllText(path, "mine")), Cancel, unnamed));
        Assert.Equal(Errno.EEXIST, e.Errno);
        Assert.Equal("mine", File.ReadAllText(path));
        Assert.Equal([Path.GetFileName(path)], Beside(path));
    }

    [Fact]
    public void Devices_are_never_replaced()
    {
        var e = Assert.Throws<PvmmapException>(() => CoreDump.Write(Sparse(), "/dev/null", new() { Overwrite = true }, null, Cancel));
        Assert.Equal(Errno.EEXIST, e.Errno);
    }

    [Fact]
    public void What_is_wrong_with_the_folder_is_said()
    {
        var e = Assert.Throws<PvmmapException>(() => CoreDump.Write(Sparse(), "/nowhere/at/all/core", new(), null, Cancel));
        Assert.Equal((Errno.ENOENT, "write /nowhere/at/all/core: ENOENT: there is no such folder"), (e.Errno, e.Message));
    }

    [Fact]
    public void A_name_that_no_file_can_have_is_refused_before_anything_is_written()
    {
        var source = new FakeCoreSource();
        foreach (bool force in (bool[])[true, false])
        {
            string path = Path.Combine(Path.GetDirectoryName(NewName())!, new string('n', 256));
            var e = Assert.Throws<PvmmapException>(() => CoreDump.Write(source, path, new() { Overwrite = force }, null, Cancel));
            Assert.Equal((Errno.ENAMETOOLONG, $"write {path}: ENAMETOOLONG: the name is longer than the file system takes; choose a shorter one"), (e.Errno, e.Message));
        }
        Assert.Equal(0, source.Reads);
        string file = NewName();
        File.WriteAllText(file, "a file");
        Assert.Equal($"write {file}/core: ENOTDIR: part of the path is no folder", Assert.Throws<PvmmapException>(() => CoreDump.Write(source, $"{file}/core", new(), null, Cancel)).Message);
    }

    /// <summary>While it is written it has a short name of its own.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void The_longest_name_that_a_file_can_have_is_written_and_replaced(bool unnamed)
    {
        string path = Path.Combine(Path.GetDirectoryName(NewName())!, new string('n', 255));
        CoreDump.Write(Sparse(), path, new(), null, Cancel, unnamed);
        CoreDump.Write(Sparse(), path, new() { Overwrite = true }, null, Cancel, unnamed);
        Assert.Equal([Path.GetFileName(path)], Beside(path));
    }

    /// <summary>Two cores written at once into one folder.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Files_of_one_process_do_not_get_in_each_others_way(bool unnamed)
    {
        string path = NewName(), other = path + "2";
        bool nested = false;
        void Write()
        {
            if (nested) return;
            nested = true;
            CoreDump.Write(Sparse(), other, new() { Overwrite = true }, null, Cancel, unnamed);
        }
        CoreDump.Write(Sparse(), path, new() { Overwrite = true }, new Act(Write), Cancel, unnamed);
        Assert.Equal(File.ReadAllBytes(path), File.ReadAllBytes(other));
        Assert.Equal(["core", "core2"], Beside(path).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Where_no_files_can_be_made_that_is_said()
    {
        var e = Assert.Throws<PvmmapException>(() => CoreDump.Write(Sparse(), "/proc/core", new(), null, Cancel));
        Assert.Equal("write /proc/core: ENOENT: no files can be made there", e.Message);
    }

    [Fact]
    public void It_can_be_encoded_on_the_way()
    {
        string path = NewName();
        static Stream Zip(Stream file) => new System.IO.Compression.GZipStream(file, System.IO.Compression.CompressionLevel.Fastest, leaveOpen: true);
        CoreDumpResult result = CoreDump.Write(Sparse(), path, new() { Encoding = Zip }, null, Cancel);
        using var unzipped = new MemoryStream();
        using (var zip = new System.IO.Compression.GZipStream(File.OpenRead(path), System.IO.Compression.CompressionMode.Decompress)) zip.CopyTo(unzipped);
        using var plain = new MemoryStream();
        CoreDump.Write(Sparse(), plain, new(), null, Cancel);
        Assert.Equal(plain.ToArray(), unzipped.ToArray());
        Assert.Equal((ulong)new FileInfo(path).Length, result.OutputBytes);
        File.Delete(path);
    }

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private static FakeCoreSource Sparse()
    {
        var source = new FakeCoreSource();
        source.Map(At, 2048);
        source.Fill(At + 3 * Page);
        source.Fill(At + 700 * Page, 18);
        source.Fill(At + 2000 * Page);
        return source;
    }

    private static (CoreFile Core, CoreDumpResult Result) Dump(FakeCoreSource source, bool isFile = true)
    {
        using MemoryStream stream = isFile ? new MemoryStream() : new Pipe();
        CoreDumpResult result = CoreDump.Write(source, stream, new(), null, Cancel);
        Assert.Equal(result.CoreBytes, (ulong)stream.ToArray().Length);
        return (new CoreFile(stream.ToArray()), result);
    }

    private static string NewName() => Path.Combine(Directory.CreateTempSubdirectory("pvmmap-core-").FullName, "core");

    private static string[] Beside(string path) => [.. Directory.GetFileSystemEntries(Path.GetDirectoryName(path)!).Select(name => Path.GetFileName(name)!)];

    private sealed class Told : IProgress<CoreDumpProgress>
    {
        public List<CoreDumpProgress> All { get; } = [];

        public void Report(CoreDumpProgress value) => All.Add(value);
    }

    private sealed class Act(Action act) : IProgress<CoreDumpProgress>
    {
        public void Report(CoreDumpProgress value) => act();
    }

    private sealed class Pipe : MemoryStream
    {
        public byte[] Bytes => ToArray();

        public override bool CanSeek => false;

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override void SetLength(long value) => throw new NotSupportedException();
    }
}
