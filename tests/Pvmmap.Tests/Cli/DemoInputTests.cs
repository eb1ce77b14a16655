using System.Formats.Tar;
using System.Security.Cryptography;
using Pvmmap.Cli.Demo;
using Xunit;

namespace Pvmmap.Tests.Cli;

public sealed class DemoInputTests : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("pvmmap-test-");

    public void Dispose() => _folder.Delete(recursive: true);

    [Fact]
    public void A_file_is_sent_as_it_is()
    {
        byte[] content = RandomNumberGenerator.GetBytes(3_000_001);
        string path = Write("file", content);
        DemoInput input = Open(path);
        using var sent = new MemoryStream();
        Assert.Equal(input.Sha256, input.Send(sent));
        Assert.Equal(content, sent.ToArray());
        Assert.Equal((ulong)content.Length, input.Length);
        Assert.Equal(Convert.ToHexStringLower(SHA256.HashData(content)), input.Sha256);
    }

    [Fact]
    public void The_limit_cuts_the_end_off()
    {
        byte[] content = RandomNumberGenerator.GetBytes(3_000_001);
        DemoInput input = Open(Write("file", content), limit: 2_000_000);
        using var sent = new MemoryStream();
        input.Send(sent);
        Assert.Equal(content[..2_000_000], sent.ToArray());
    }

    [Fact]
    public void A_folder_is_a_tar_stream_with_everything_in_it_the_same_each_time()
    {
        byte[] large = RandomNumberGenerator.GetBytes(100_000);
        Write("b", large);
        Write("empty", []);
        _folder.CreateSubdirectory("sub/deeper");
        Write("sub/deeper/" + new string('n', 150), [1, 2, 3]);
        File.CreateSymbolicLink(Path.Combine(_folder.FullName, "link"), "b");
        DemoInput input = Open(_folder.FullName);
        using MemoryStream first = new(), second = new();
        Assert.Equal(input.Sha256, input.Send(first));
        Assert.Equal(input.Sha256, input.Send(second));

        first.Position = 0;
        using var tar = new TarReader(first);
        Dictionary<string, (TarEntryType Type, byte[] Data, string Link)> entries = [];
        while (tar.GetNextEntry() is { } entry)
        {
            using var data = new MemoryStream();
            entry.DataStream?.CopyTo(data);
            entries.Add(entry.Name, (entry.EntryType, data.ToArray(), entry.LinkName));
        }

        Assert.Equal(["b", "empty", "link", "sub/", "sub/deeper/", "sub/deeper/" + new string('n', 150)], entries.Keys);
        Assert.Equal(large, entries["b"].Data);
        Assert.Equal((TarEntryType.SymbolicLink, "b"), (entries["link"].Type, entries["link"].Link));
        Assert.Equal([1, 2, 3], entries["sub/deeper/" + new string('n', 150)].Data);
    }

    [Fact]
    public void A_file_that_has_become_smaller_is_an_error()
    {
        string path = Write("file", new byte[1000]);
        DemoInput input = Open(path);
        File.WriteAllBytes(path, new byte[500]);
        Assert.Contains("smaller", Assert.Throws<IOException>(() => input.Send(Stream.Null)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_is_not_there_or_empty_is_an_error_in_one_line()
    {
        Assert.Contains("no such file", Assert.Throws<FileNotFoundException>(() => Open("/nowhere/at/all")).Message, StringComparison.Ordinal);
        Assert.Contains("empty", Assert.Throws<IOException>(() => Open(Write("nothing", []))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_does_not_fit_into_memory_is_an_error_unless_the_limit_cuts_it_down()
    {
        string path = Write("file", new byte[1001]);
        foreach (string input in new[] { path, _folder.FullName })
        {
            Assert.Contains("--size", Assert.Throws<IOException>(() => Open(input, room: 1000)).Message, StringComparison.Ordinal);
            Assert.Equal(1000UL, Open(input, limit: 1000, room: 1000).Length);
        }

        Assert.Equal(1001UL, Open(path, room: 1001).Length);
    }

    private static DemoInput Open(string path, ulong limit = ulong.MaxValue, ulong room = 1 << 30) => DemoInput.Open(path, limit, room);

    private string Write(string name, byte[] content)
    {
        string path = Path.Combine(_folder.FullName, name);
        File.WriteAllBytes(path, content);
        return path;
    }
}
