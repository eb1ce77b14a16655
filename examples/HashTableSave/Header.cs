using System.Runtime.InteropServices;

namespace HashTableSave;

/// <summary>The first page of the table, in memory and in the file: what all entries together have to come to.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct Header
{
    public const ulong ExpectedMagic = 0x6576_6153_6873_6148; // "HashSave"

    public ulong Magic;

    public ulong Slots;

    /// <summary>Slots in use.</summary>
    public ulong Count;

    /// <summary>Sum of all balances. No write changes it.</summary>
    public long Total;

    /// <summary>Sum of all entries' writes: each write is counted here and in the two accounts it concerns.</summary>
    public ulong Writes;

    /// <summary>The key that the next new account gets.</summary>
    public ulong NextKey;
}
