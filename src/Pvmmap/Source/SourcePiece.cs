using Pvmmap.Procfs;

namespace Pvmmap.Source;

/// <summary>A run of the source range whose pages have the same kind, protection and attributes: one VMA in the target.</summary>
/// <param name="Range">Addresses in the source.</param>
/// <param name="Protection">PROT_* bits.</param>
/// <param name="Flags">The flags of the VMA that matter to us (<see cref="SourcePlan.Carried"/>, <see cref="SourcePlan.WithheldFromFork"/> and what tells its kind).</param>
/// <param name="AnonymousName">The name given by PR_SET_VMA_ANON_NAME.</param>
internal sealed record SourcePiece(PageRange Range, Protection Protection, VmFlags Flags, string? AnonymousName)
{
    public MemoryKind Kind { get; init; }

    /// <summary>What is mapped there, from the first page of the piece on; null if it is private anonymous memory.</summary>
    public Vma? Mapped { get; init; }

    /// <summary>Bytes in a page of it.</summary>
    public ulong PageBytes { get; init; } = PageRange.PageSize;

    /// <summary>Which nodes its pages are to come from; null for the default, and for what its object decides.</summary>
    public MemoryPolicy? Policy { get; init; }

    public bool IsAnonymous => Kind == MemoryKind.Anonymous;

    /// <summary>An object must be opened to map it.</summary>
    public bool HasObject => Kind is MemoryKind.PrivateFile or MemoryKind.Shared;

    /// <summary>Private, and of the pool of huge pages: a fork does not keep such pages, the kernel takes them from it when the pool is empty.</summary>
    public bool MustStandStill => Kind != MemoryKind.Shared && Flags.HasFlag(VmFlags.HugeTlb);
}
