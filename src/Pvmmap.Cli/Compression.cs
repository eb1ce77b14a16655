using System.CommandLine.Parsing;
using System.IO.Compression;
using ZstdSharp;

namespace Pvmmap.Cli;

/// <summary>How a file is compressed while it is written.</summary>
internal enum Compression
{
    None,
    Gzip,
    Zstd,
}

/// <summary>What each <see cref="Compression"/> is called, and what it does.</summary>
internal static class CompressionKinds
{
    // The fastest of each: a core is mostly written once and read never, and the snapshot holds memory for as long as it takes.
    private const int ZstdLevel = 1;

    public static string Word(this Compression kind) => kind switch
    {
        Compression.Gzip => "gzip",
        Compression.Zstd => "zstd",
        _ => "none",
    };

    /// <summary>Takes a stream and gives one that compresses into it and leaves it open; null for none.</summary>
    public static Func<Stream, Stream>? Encoding(this Compression kind) => kind switch
    {
        Compression.Gzip => stream => new GZipStream(stream, CompressionLevel.Fastest, leaveOpen: true),
        Compression.Zstd => stream => new CompressionStream(stream, ZstdLevel, leaveOpen: true),
        _ => null,
    };

    public static Compression OfName(string file) => Path.GetExtension(file) switch
    {
        ".gz" => Compression.Gzip,
        ".zst" => Compression.Zstd,
        _ => Compression.None,
    };

    public static Compression? Parse(ArgumentResult result)
    {
        string word = result.Tokens[0].Value;
        foreach (Compression kind in Enum.GetValues<Compression>())
            if (kind.Word() == word) return kind;
        result.AddError($"--compress: '{word}' is not known; write gzip, zstd or none");
        return null;
    }
}
