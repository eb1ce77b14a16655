namespace Pvmmap.Source;

/// <summary>What a piece of the source range is, and so how the target comes by it.</summary>
internal enum MemoryKind
{
    /// <summary>Private anonymous memory: its pages are the holder's business.</summary>
    Anonymous,

    /// <summary>A file mapped private: the target maps the same file, and is given the pages that the source has changed.</summary>
    PrivateFile,

    /// <summary>A file, a memfd or shared memory: the target maps the same object.</summary>
    Shared,

    /// <summary>Private anonymous memory out of the pool of huge pages (MAP_HUGETLB): copied while the source stands still.</summary>
    PrivateHugePages,
}
