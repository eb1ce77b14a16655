namespace Pvmmap.Cli;

/// <summary>A range of bytes as the user gave it: not yet rounded to pages.</summary>
/// <param name="Start">First byte.</param>
/// <param name="Length">Bytes, at least 1.</param>
internal readonly record struct AddressRange(ulong Start, ulong Length);
