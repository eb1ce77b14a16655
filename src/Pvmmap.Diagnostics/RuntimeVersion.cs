using System.Buffers;
using System.Text;
using Microsoft.Diagnostics.Runtime;
using Pvmmap.Snapshots;

namespace Pvmmap.Diagnostics;

/// <summary>
/// The version that a build stamps into each of its libraries ("@(#)Version 10.0.1226.42308"): of the runtime that is in memory, and of a file. The two must
/// be the same for one to read the other.
/// </summary>
internal static class RuntimeVersion
{
    private const int LongestVersion = 32;

    private static readonly SearchValues<byte> s_ofVersions = SearchValues.Create("0123456789."u8);

    private static ReadOnlySpan<byte> Stamp => "@(#)Version "u8;

    /// <summary>Of a library in memory, whatever file is now where it was loaded from; null if it has no stamp.</summary>
    public static string? InMemory(ProcessSnapshot snapshot, ModuleInfo module)
    {
        ulong end = module.ImageBase + (ulong)module.ImageSize;
        foreach (SnapshotRange range in snapshot.Ranges.Where(range => range.IsWritable && range.Range.Start >= module.ImageBase && range.Range.Start < end))
        {
            byte[] bytes = new byte[Math.Min(range.Range.End, end) - range.Range.Start];
            if (Find(bytes.AsSpan(0, snapshot.ReadSome(range.Range.Start, bytes))) is { } version) return version;
        }

        return null;
    }

    /// <summary>Of a library; null if it has no stamp.</summary>
    public static string? OfFile(string path) => Find(File.ReadAllBytes(path));

    internal static string? Find(ReadOnlySpan<byte> bytes)
    {
        int at = bytes.IndexOf(Stamp);
        if (at < 0) return null;
        bytes = bytes[(at + Stamp.Length)..];
        int length = bytes[..Math.Min(bytes.Length, LongestVersion)].IndexOfAnyExcept(s_ofVersions);
        return length <= 0 ? null : Encoding.ASCII.GetString(bytes[..length]);
    }
}
