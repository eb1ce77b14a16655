using Microsoft.Diagnostics.Runtime;

namespace Pvmmap.Diagnostics;

/// <summary>The objects of a heap, by type.</summary>
/// <param name="Types">The types, by total size, the smallest first, as <c>dumpheap -stat</c> has them.</param>
public sealed record HeapStatistics(IReadOnlyList<TypeStatistics> Types)
{
    /// <summary>Objects, free ones included.</summary>
    public ulong Count => Types.Aggregate(0UL, (sum, type) => sum + type.Count);

    /// <summary>Bytes of all objects, free ones included.</summary>
    public ulong Size => Types.Aggregate(0UL, (sum, type) => sum + type.Size);

    internal static HeapStatistics Of(ClrHeap heap, Func<ClrObject, bool>? filter, out string? fault)
    {
        Dictionary<ulong, (ClrType Type, ulong Count, ulong Size)> types = [];
        fault = HeapWalk.Walk(heap, item =>
        {
            if (filter is not null && !filter(item)) return;
            ClrType type = item.Type!;
            (_, ulong count, ulong size) = types.GetValueOrDefault(type.MethodTable);
            types[type.MethodTable] = (type, count + 1, size + item.Size);
        });
        return new HeapStatistics([.. types.Values
            .Select(seen => new TypeStatistics(seen.Type.MethodTable, seen.Count, seen.Size, seen.Type.Name ?? "", seen.Type.IsFree))
            .OrderBy(type => type.Size).ThenBy(type => type.Count).ThenBy(type => type.MethodTable)]);
    }
}

/// <summary>The objects of one type.</summary>
/// <param name="MethodTable">Address of the type's method table, which tells types of one name apart.</param>
/// <param name="Count">How many there are.</param>
/// <param name="Size">Bytes of all of them.</param>
/// <param name="Name">The type's name; "Free" for what is no object any more.</param>
/// <param name="IsFree">Whether this is memory between objects that the collector has not given out again.</param>
public sealed record TypeStatistics(ulong MethodTable, ulong Count, ulong Size, string Name, bool IsFree);
