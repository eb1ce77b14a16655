using System.Runtime.InteropServices;
using Pvmmap.Cli.Demo;

namespace Pvmmap.Bench;

/// <summary>
/// Content that tells pages and rounds apart and that a compressor can do something with, but not everything: a third of each page looks random.
/// zram keeps no memory for a page of one word, and would swap that for next to nothing.
/// </summary>
internal static class MixedPages
{
    private const ulong Odd = 0x9E3779B97F4A7C15, Other = 0xBF58476D1CE4E5B9;
    private const int Random = 170;

    /// <param name="pages">Whole pages.</param>
    /// <param name="seed">Of the round.</param>
    /// <param name="firstPage">Number of the first of them.</param>
    public static void Write(Span<byte> pages, ulong seed, ulong firstPage)
    {
        for (; pages.Length > 0; pages = pages[(int)PageRange.PageSize..])
        {
            Span<ulong> page = MemoryMarshal.Cast<byte, ulong>(pages[..(int)PageRange.PageSize]);
            ulong word = Word(seed, firstPage++);
            for (int i = 0; i < Random; i++) page[i] = Mix(word, i);
            page[Random..].Fill(word);
        }
    }

    public static void Write(AnonymousMemory memory, ulong seed)
    {
        for (ulong offset = 0; offset < memory.Length; offset += (ulong)memory.Slice(offset).Length) Write(memory.Slice(offset), seed, offset / PageRange.PageSize);
    }

    /// <summary>Reads every byte.</summary>
    /// <returns>Pages that do not hold what <see cref="Write(AnonymousMemory, ulong)"/> left there.</returns>
    public static ulong CountWrong(AnonymousMemory memory, ulong seed)
    {
        ulong wrong = 0;
        for (ulong number = 0; number < memory.Pages; number++)
        {
            Span<ulong> page = MemoryMarshal.Cast<byte, ulong>(memory.Slice(number * PageRange.PageSize)[..(int)PageRange.PageSize]);
            ulong word = Word(seed, number), difference = 0;
            for (int i = 0; i < Random; i++) difference |= page[i] ^ Mix(word, i);
            if (difference != 0 || page[Random..].ContainsAnyExcept(word)) wrong++;
        }

        return wrong;
    }

    private static ulong Word(ulong seed, ulong page) => (seed * Odd) + page;

    private static ulong Mix(ulong word, int place)
    {
        ulong mixed = (word + ((ulong)place << 40)) * Other;
        return (mixed ^ (mixed >> 31)) * Odd;
    }
}
