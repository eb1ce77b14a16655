namespace Pvmmap.Bench;

/// <summary>What private anonymous memory is made of.</summary>
internal enum PageKind
{
    /// <summary>4 KiB pages: MADV_NOHUGEPAGE.</summary>
    Small,

    /// <summary>Transparent huge pages: MADV_HUGEPAGE.</summary>
    Huge,
}
