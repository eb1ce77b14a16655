using System.Runtime.InteropServices;
using Pvmmap.Cli.Demo;

namespace Pvmmap.Bench;

/// <summary>Content that tells pages and rounds apart: each page is full of one word, made of the seed and the page's number.</summary>
internal static class PageStamps
{
    private const ulong Odd = 0x9E3779B97F4A7C15; // the golden ratio: no two small seeds come near each other

    public static void Write(AnonymousMemory memory, ulong seed)
    {
        ForEachPage(memory, (page, number) =>
        {
            page.Fill(Word(seed, number));
            return true;
        });
    }

    /// <summary>Reads every byte.</summary>
    /// <returns>Pages that do not hold what <see cref="Write"/> left there.</returns>
    public static ulong CountWrong(AnonymousMemory memory, ulong seed) =>
        memory.Pages - ForEachPage(memory, (page, number) => !page.ContainsAnyExcept(Word(seed, number)));

    private delegate bool Visit(Span<ulong> page, ulong number);

    private static ulong ForEachPage(AnonymousMemory memory, Visit visit)
    {
        ulong good = 0;
        for (ulong number = 0; number < memory.Pages; number++)
        {
            Span<byte> page = memory.Slice(number * PageRange.PageSize)[..(int)PageRange.PageSize];
            if (visit(MemoryMarshal.Cast<byte, ulong>(page), number)) good++;
        }

        return good;
    }

    private static ulong Word(ulong seed, ulong page) => (seed * Odd) + page;
}
