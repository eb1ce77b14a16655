using Microsoft.Diagnostics.Runtime;
using Pvmmap.Snapshots;

namespace Pvmmap.Diagnostics;

/// <summary>The programs and libraries that the process had mapped: ELF files as the loader places them, .NET assemblies as the runtime does.</summary>
internal static class SnapshotModules
{
    private const string Deleted = " (deleted)";

    public static IEnumerable<ModuleInfo> Find(IDataReader reader, IReadOnlyList<SnapshotRange> ranges)
    {
        ModuleInfo? last = null;
        foreach (SnapshotRange range in ranges)
        {
            string path = Path(range);
            if (range.Offset != 0 || !path.StartsWith('/')) continue;
            // some linkers place the file's first page twice in one image
            if (last is not null && last.FileName == path && range.Range.Start < last.ImageBase + (ulong)last.ImageSize) continue;
            // no header of either kind: data that is mapped
            if (ModuleInfo.TryCreate(reader, range.Range.Start, path) is not { } module) continue;
            last = module;
            yield return module;
        }
    }

    /// <summary>The path without what the kernel puts behind it if the file is gone: the runtime knows its files by their names.</summary>
    public static string Path(SnapshotRange range) => range.Name.EndsWith(Deleted, StringComparison.Ordinal) ? range.Name[..^Deleted.Length] : range.Name;

    /// <summary>The file has been deleted, or replaced as packages are, since the process mapped it.</summary>
    public static bool IsDeleted(SnapshotRange range) => range.Name.EndsWith(Deleted, StringComparison.Ordinal);
}
