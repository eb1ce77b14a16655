using Pvmmap.Procfs;

namespace Pvmmap.Source;

/// <summary>A run of the source range whose pages have the same protection and attributes: one VMA in the target.</summary>
/// <param name="Range">Addresses in the source.</param>
/// <param name="Protection">PROT_* bits.</param>
/// <param name="Flags">The flags of the VMA that matter to us (<see cref="SourcePlan.Carried"/> and <see cref="SourcePlan.WithheldFromFork"/>).</param>
/// <param name="AnonymousName">The name given by PR_SET_VMA_ANON_NAME.</param>
internal sealed record SourcePiece(PageRange Range, Protection Protection, VmFlags Flags, string? AnonymousName);
