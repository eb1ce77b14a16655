namespace Pvmmap;

/// <summary>Something that the call uses, and whether this machine and this caller have it.</summary>
/// <param name="Name">The kernel's or the man pages' own term.</param>
/// <param name="Present">Found by trying it, never inferred from a version.</param>
/// <param name="Required">true: without it the call fails. false: without it the call does less, as <paramref name="Detail"/> says.</param>
/// <param name="Detail">What was found, and what it means for the call.</param>
/// <param name="Cure">What to do if it is missing; null where nothing is missing.</param>
public sealed record Capability(string Name, bool Present, bool Required, string Detail, string? Cure);
