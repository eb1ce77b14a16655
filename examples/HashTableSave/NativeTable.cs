using System.Diagnostics;
using System.Runtime.InteropServices;
using Pvmmap;

namespace HashTableSave;

/// <summary>
/// A hash table in native memory, open addressing with linear probing: a page of <see cref="Header"/>, then the slots. It is for one writer at a time:
/// whoever writes holds <see cref="Gate"/>, from the first byte of a write to the last.
/// </summary>
internal sealed unsafe class NativeTable : IDisposable
{
    private const double LoadFactor = 0.7;
    private const long FirstBalance = 1000;

    private readonly byte* memory;
    private readonly Entry* entries;
    private readonly ulong slots;

    private NativeTable(ulong length)
    {
        Length = length;
        memory = (byte*)NativeMemory.AlignedAlloc((nuint)length, (nuint)PageRange.PageSize);
        entries = (Entry*)(memory + PageRange.PageSize);
        slots = (length - PageRange.PageSize) / (ulong)sizeof(Entry);
    }

    public Lock Gate { get; } = new();

    public ulong Length { get; }

    /// <summary>Where it is: what a snapshot is taken of.</summary>
    public PageRange Range => new((ulong)memory, (ulong)memory + Length);

    public ulong Count => Header.Count;

    public ulong Writes => Header.Writes;

    private ref Header Header => ref *(Header*)memory;

    /// <summary>A table full of accounts.</summary>
    /// <param name="length">Bytes, a multiple of the page size, two pages at least.</param>
    public static NativeTable Create(ulong length)
    {
        NativeTable table = new(length);
        for (ulong at = 0; at < length; at += 1 << 30) NativeMemory.Clear(table.memory + at, (nuint)Math.Min(1 << 30, length - at));
        table.Header = new Header { Magic = Header.ExpectedMagic, Slots = table.slots, NextKey = 1 };
        for (ulong i = 0; i < (ulong)(table.slots * LoadFactor); i++) table.Add(FirstBalance, 0);
        table.Header.Total = (long)table.Count * FirstBalance;
        return table;
    }

    /// <summary>Reads a table that was saved; what is in it has yet to be examined.</summary>
    /// <exception cref="InvalidDataException">It is none.</exception>
    public static NativeTable Load(string path, CancellationToken cancellation)
    {
        using FileStream file = new(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
        if (file.Length < 2 * (long)PageRange.PageSize || file.Length % (long)PageRange.PageSize != 0) throw new InvalidDataException($"{path} is no table: {file.Length} bytes");
        NativeTable table = new((ulong)file.Length);
        try
        {
            using Stream into = table.Open(FileAccess.Write);
            SaveFile.Copy(file, into, cancellation);
            if (table.Header.Magic != Header.ExpectedMagic || table.Header.Slots != table.slots) throw new InvalidDataException($"{path} is no table");
            return table;
        }
        catch
        {
            table.Dispose();
            throw;
        }
    }

    /// <summary>The memory itself, as it is from one instant to the next.</summary>
    public Stream Open(FileAccess access) => new UnmanagedMemoryStream(memory, (long)Length, (long)Length, access);

    /// <summary>Gives part of one account's balance to another one.</summary>
    /// <param name="from">Any number: the account next to that place.</param>
    /// <param name="to">The same.</param>
    public void Transfer(ulong from, ulong to)
    {
        ref Entry giver = ref Near(from);
        ref Entry taker = ref Near(to);
        long amount = giver.Balance / 8;
        giver.Balance -= amount;
        taker.Balance += amount;
        giver.Writes++;
        taker.Writes++;
        Header.Writes += 2;
        giver.Seal();
        taker.Seal();
    }

    /// <summary>Removes an account, whose heir another one is, and adds a new one.</summary>
    public void Replace(ulong gone, ulong heir)
    {
        ref Entry old = ref Near(gone);
        ref Entry next = ref Near(heir);
        if (old.Key == next.Key) return;
        next.Balance += old.Balance;
        next.Writes += old.Writes + 1;
        next.Seal();
        Remove(ref old);
        Add(0, 1);
        Header.Writes += 2;
    }

    /// <summary>Looks at every entry: whether it is whole, is found by its key, and whether all come to what the header says.</summary>
    public Verdict Examine()
    {
        ulong count = 0, writes = 0, broken = 0;
        long total = 0;
        for (ulong i = 0; i < slots; i++)
        {
            ref Entry entry = ref entries[i];
            if (entry.Key == 0) continue;
            count++;
            total += entry.Balance;
            writes += entry.Writes;
            if (!entry.IsSealed || Find(entry.Key) != i) broken++;
        }
        return new Verdict(count, broken, (long)(count - Header.Count), total - Header.Total, (long)(writes - Header.Writes));
    }

    public void Dispose() => NativeMemory.AlignedFree(memory);

    /// <summary>A number from which any bit tells nothing about the others (splitmix64).</summary>
    internal static ulong Mix(ulong x)
    {
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
        x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
        return x ^ (x >> 31);
    }

    private ulong Home(ulong key) => Place(Mix(key));

    private ulong Place(ulong number) => Math.BigMul(number, slots, out _);

    private ulong Next(ulong slot) => slot + 1 == slots ? 0 : slot + 1;

    private ref Entry Near(ulong number)
    {
        ulong slot = Place(number);
        while (entries[slot].Key == 0) slot = Next(slot);
        return ref entries[slot];
    }

    // The slot of the key; null if it is not there. A torn table may have no empty slot.
    private ulong? Find(ulong key)
    {
        ulong slot = Home(key);
        for (ulong i = 0; i < slots && entries[slot].Key != 0; i++, slot = Next(slot))
        {
            if (entries[slot].Key == key) return slot;
        }
        return null;
    }

    private void Add(long balance, ulong writes)
    {
        Debug.Assert(Header.Count < slots, "the table is full");
        ulong key = Header.NextKey++, slot = Home(key);
        while (entries[slot].Key != 0) slot = Next(slot);
        entries[slot] = new Entry { Key = key, Balance = balance, Writes = writes };
        entries[slot].Seal();
        Header.Count++;
    }

    // Entries behind it move up, so that nobody's way from home leads over an empty slot.
    private void Remove(ref Entry gone)
    {
        ulong hole = (ulong)((Entry*)System.Runtime.CompilerServices.Unsafe.AsPointer(ref gone) - entries);
        for (ulong slot = Next(hole); entries[slot].Key != 0; slot = Next(slot))
        {
            ulong home = Home(entries[slot].Key);
            bool mayMove = hole <= slot ? home <= hole || home > slot : home <= hole && home > slot;
            if (!mayMove) continue;
            entries[hole] = entries[slot];
            hole = slot;
        }
        entries[hole] = default;
        Header.Count--;
    }
}
