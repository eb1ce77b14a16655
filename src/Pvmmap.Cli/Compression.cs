using System.CommandLine.Parsing;
using System.IO.Compression;
using ZstdSharp;
using ZstdSharp.Unsafe;

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
    // Fast rather than small: the snapshot holds memory for as long as it takes.
    private const int ZstdLevel = 3, MostZstdThreads = 8;

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
        Compression.Zstd => Zstd,
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

    private static CompressionStream Zstd(Stream stream)
    {
        var zstd = new CompressionStream(stream, ZstdLevel, leaveOpen: true);
        zstd.SetParameter(ZSTD_cParameter.ZSTD_c_nbWorkers, Math.Min(Environment.ProcessorCount, MostZstdThreads));
        zstd.SetParameter(ZSTD_cParameter.ZSTD_c_checksumFlag, 1);
        return zstd;
    }
}
