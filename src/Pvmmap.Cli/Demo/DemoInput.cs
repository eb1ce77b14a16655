using System.Formats.Tar;
using System.Security.Cryptography;

namespace Pvmmap.Cli.Demo;

/// <summary>What the page server is sent: a file, or a folder as a tar stream. It can be sent any number of times.</summary>
internal sealed class DemoInput
{
    private readonly string _path;
    private readonly bool _isFolder;

    private DemoInput(string path, ulong limit)
    {
        _path = path;
        _isFolder = Directory.Exists(path);
        (Length, Sha256) = Send(Stream.Null, limit);
    }

    public ulong Length { get; }

    /// <summary>As it was when it was opened.</summary>
    public string Sha256 { get; }

    public string Description => _isFolder ? $"{_path} as a tar stream" : _path;

    /// <summary>Opens a file or folder; the installed .NET SDK when none is named. At most <paramref name="limit"/> bytes of it.</summary>
    /// <exception cref="IOException">There is no such file or folder, nothing in it, or more than <paramref name="room"/> bytes.</exception>
    public static DemoInput Open(string? path, ulong limit, ulong room)
    {
        path = path is null
            ? FindSdk() ?? throw new FileNotFoundException("demo: no input: no .NET SDK was found here; name a file or a folder")
            : Path.GetFullPath(path);
        if (!File.Exists(path) && !Directory.Exists(path)) throw new FileNotFoundException($"demo: {path}: no such file or folder; name another");
        // What cannot fit is not read to its end first: a file is known by its length, a folder by the first byte too many.
        bool tooLarge = File.Exists(path) && Math.Min(limit, (ulong)new FileInfo(path).Length) > room;
        DemoInput? input = tooLarge ? null : new DemoInput(path, Math.Min(limit, room + 1));
        if (input is null || input.Length > room)
        {
            throw new IOException(
                $"demo: {path}: more than the {Figures.Bytes(room)} that fit twice into the memory that is free; take a part of it with --size");
        }

        return input.Length > 0 ? input : throw new IOException($"demo: {path}: it is empty; name a file or folder with something in it");
    }

    /// <summary>Writes the input, <see cref="Length"/> bytes, to the stream.</summary>
    /// <returns>SHA-256 of what was written: somebody may be at work in that folder.</returns>
    /// <exception cref="IOException">There is less than there was.</exception>
    public string Send(Stream destination)
    {
        (ulong written, string sha256) = Send(destination, Length);
        return written == Length ? sha256 : throw new IOException($"demo: {_path}: it has become smaller meanwhile; run this again, or name another");
    }

    private (ulong Written, string Sha256) Send(Stream destination, ulong limit)
    {
        using var stream = new LimitedHashingStream(destination, limit);
        Write(stream);
        stream.Flush();
        return (stream.Written, stream.Sha256());
    }

    private void Write(LimitedHashingStream stream)
    {
        if (_isFolder)
        {
            using var tar = new TarWriter(stream, TarEntryFormat.Gnu, leaveOpen: true);
            WriteFolder(tar, new DirectoryInfo(_path), "", stream);
            return;
        }

        using FileStream file = File.OpenRead(_path);
        byte[] buffer = new byte[1 << 20];
        for (int got; !stream.IsFull && (got = file.Read(buffer)) > 0;) stream.Write(buffer, 0, got);
    }

    // Entries by hand and in order: TarWriter's own take over access times, which the first pass changes.
    private static void WriteFolder(TarWriter tar, DirectoryInfo folder, string prefix, LimitedHashingStream stream)
    {
        foreach (FileSystemInfo item in folder.EnumerateFileSystemInfos().OrderBy(item => item.Name, StringComparer.Ordinal))
        {
            if (stream.IsFull) return;
            string name = prefix + item.Name;
            if (item.LinkTarget is { } link)
            {
                tar.WriteEntry(new GnuTarEntry(TarEntryType.SymbolicLink, name) { LinkName = link, ModificationTime = item.LastWriteTimeUtc });
            }
            else if (item is DirectoryInfo inner)
            {
                tar.WriteEntry(new GnuTarEntry(TarEntryType.Directory, name + "/")
                {
                    Mode = item.UnixFileMode,
                    ModificationTime = item.LastWriteTimeUtc,
                });
                WriteFolder(tar, inner, name + "/", stream);
            }
            else
            {
                // A pipe or a device has no length and goes over as an empty file: opening it could wait for ever.
                using FileStream? data = item is FileInfo { Length: > 0 } ? File.OpenRead(item.FullName) : null;
                tar.WriteEntry(new GnuTarEntry(TarEntryType.RegularFile, name)
                {
                    Mode = item.UnixFileMode,
                    ModificationTime = item.LastWriteTimeUtc,
                    DataStream = data,
                });
            }
        }
    }

    private static string? FindSdk()
    {
        string? root = Environment.GetEnvironmentVariable("DOTNET_ROOT");
        if (root is not null && Directory.Exists(root)) return Path.GetFullPath(root);
        foreach (string folder in (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries))
        {
            var dotnet = new FileInfo(Path.Combine(folder, "dotnet"));
            if (dotnet.Exists) return Path.GetDirectoryName((dotnet.ResolveLinkTarget(returnFinalTarget: true) ?? dotnet).FullName);
        }

        return null;
    }

    /// <summary>Hands on the first bytes, up to a limit, and drops the rest.</summary>
    private sealed class LimitedHashingStream(Stream inner, ulong limit) : WriteOnlyStream
    {
        private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);

        public ulong Written { get; private set; }

        public bool IsFull => Written == limit;

        public string Sha256() => Convert.ToHexStringLower(_hash.GetCurrentHash());

        public override void Write(ReadOnlySpan<byte> buffer)
        {
            ReadOnlySpan<byte> taken = buffer[..(int)Math.Min((ulong)buffer.Length, limit - Written)];
            inner.Write(taken);
            _hash.AppendData(taken);
            Written += (ulong)taken.Length;
        }

        public override void Flush() => inner.Flush();

        protected override void Dispose(bool disposing)
        {
            if (disposing) _hash.Dispose();
            base.Dispose(disposing);
        }
    }
}
