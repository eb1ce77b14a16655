using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace HashTableSave;

/// <summary>A slot of the table: a key and 56 bytes of value, here an account. Key 0 is an empty slot.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct Entry
{
    private const int SealWords = 5;

    public ulong Key;

    public long Balance;

    /// <summary>Writes to this account, and to those whose heir it is.</summary>
    public ulong Writes;

    private SealData seal;

    /// <summary>Of every bit of the entry: one that was saved half written does not have it.</summary>
    public readonly bool IsSealed
    {
        get
        {
            ulong expected = Digest;
            for (int i = 0; i < SealWords; i++)
            {
                if (seal[i] != expected + (ulong)i) return false;
            }
            return true;
        }
    }

    private readonly ulong Digest => NativeTable.Mix(Key ^ NativeTable.Mix((ulong)Balance) ^ NativeTable.Mix(~Writes));

    public void Seal()
    {
        ulong digest = Digest;
        for (int i = 0; i < SealWords; i++) seal[i] = digest + (ulong)i;
    }

    [InlineArray(SealWords)]
    private struct SealData
    {
        private ulong first;
    }
}
