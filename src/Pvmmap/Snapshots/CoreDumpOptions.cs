namespace Pvmmap.Snapshots;

/// <summary>What <see cref="CoreDump"/> writes, and how.</summary>
public sealed record CoreDumpOptions
{
    /// <summary>
    /// Which memory; null, the default, takes the process's own coredump_filter, and of a .NET process <see cref="CoreFilter.MappedPrivate"/> too: debuggers
    /// for it read the runtime's files from the core.
    /// </summary>
    public CoreFilter? Filter { get; init; }

    /// <summary>Memory that the process excluded with madvise(MADV_DONTDUMP) too.</summary>
    public bool IncludeDontDump { get; init; }

    /// <summary>Made into what is written to a file: takes the file's stream, which must be left open, and gives the one to write to. For compression.</summary>
    public Func<Stream, Stream>? Encoding { get; init; }

    /// <summary>A file of that name is replaced, in one step at the end.</summary>
    public bool Overwrite { get; init; }
}
