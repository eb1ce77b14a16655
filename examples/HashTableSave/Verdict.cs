namespace HashTableSave;

/// <summary>What was found in a table that was read back.</summary>
/// <param name="Count">Entries.</param>
/// <param name="Broken">Entries that are half written, or not found by their key.</param>
/// <param name="CountOff">By how much the number of entries differs from the header's.</param>
/// <param name="TotalOff">The same for the sum of the balances.</param>
/// <param name="WritesOff">The same for the writes.</param>
internal sealed record Verdict(ulong Count, ulong Broken, long CountOff, long TotalOff, long WritesOff)
{
    public bool Holds => this is { Broken: 0, CountOff: 0, TotalOff: 0, WritesOff: 0 };

    public override string ToString() => Holds
        ? FormattableString.Invariant($"{Count} entries, as they should be")
        : FormattableString.Invariant($"{Count} entries, {Broken} of them broken; too many entries {CountOff}, money {TotalOff}, writes {WritesOff}");
}
