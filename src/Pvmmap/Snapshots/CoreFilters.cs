using System.Globalization;
using Pvmmap.Linux;

namespace Pvmmap.Snapshots;

/// <summary>Which <see cref="CoreFilter"/> a process has, and which kind of it a mapping is.</summary>
internal static class CoreFilters
{
    private const string Deleted = " (deleted)";

    /// <summary>The kinds that are shared.</summary>
    public const CoreFilter Shared = CoreFilter.AnonymousShared | CoreFilter.MappedShared | CoreFilter.HugeTlbShared | CoreFilter.DaxShared;

    /// <summary>Shared mappings of files that the process cannot write: so the runtime of .NET maps assemblies, which have the names of types in them.</summary>
    public const CoreFilter ReadOnlyShared = (CoreFilter)(1 << 9);

    /// <summary>That of a process: its coredump_filter, or the kernel's own where it cannot be read.</summary>
    public static CoreFilter Of(int pid) => (CoreFilter)(uint.TryParse(Files.TryReadText(string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/coredump_filter")),
        NumberStyles.HexNumber, CultureInfo.InvariantCulture, out uint filter) ? filter : SnapshotIdentity.DefaultCoreDumpFilter);

    /// <summary>What is dumped of a process unless something else is asked for.</summary>
    /// <remarks>
    /// What a debugger needs of a .NET process it reads from the memory alone, the runtime's text and tables included, and from no file: createdump takes
    /// them too.
    /// </remarks>
    public static CoreFilter Usual(CoreFilter own, IReadOnlyList<SnapshotRange> ranges) =>
        ranges.Any(range => IsOfDotnet(range.Name)) ? own | CoreFilter.MappedPrivate | ReadOnlyShared : own;

    /// <summary>The kind of a shared mapping; none if it maps a device's memory.</summary>
    /// <param name="codes">Its flags as smaps writes them.</param>
    /// <param name="hasFile">An inode is mapped.</param>
    /// <param name="name">Its name in maps.</param>
    public static CoreFilter OfShared(string codes, bool hasFile, string name) =>
        Has(codes, "sf") ? CoreFilter.DaxShared
        : Has(codes, "ht") ? CoreFilter.HugeTlbShared
        : Has(codes, "io") ? CoreFilter.None
        : !hasFile || HasNoName(name) ? CoreFilter.AnonymousShared : CoreFilter.MappedShared;

    // Codes of two letters with blanks between them: no other place can hold two letters.
    public static bool Has(string codes, string code) => codes.Contains(code, StringComparison.Ordinal);

    // The kernel looks at the number of links: a deleted file and a memfd have none.
    private static bool HasNoName(string name) => name.EndsWith(Deleted, StringComparison.Ordinal) || name.StartsWith("[anon_shmem:", StringComparison.Ordinal);

    // A single-file app has the runtime in its own program, but maps the code that it compiles as every other does.
    private static bool IsOfDotnet(string name) => name == "/memfd:doublemapper (deleted)"
        || (name.EndsWith(Deleted, StringComparison.Ordinal) ? name[..^Deleted.Length] : name).EndsWith("/libcoreclr.so", StringComparison.Ordinal);
}
