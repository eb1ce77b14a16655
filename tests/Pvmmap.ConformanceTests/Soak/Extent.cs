using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests.Soak;

/// <summary>Pages in a row of equal kind: what they must hold and what the process may do with them.</summary>
/// <param name="Range">Where.</param>
/// <param name="Seed">Of the pattern; 0 for zeros.</param>
/// <param name="FirstPage">The number that the first page has in its pattern.</param>
/// <param name="Protection">Of the mapping.</param>
internal readonly record struct Extent(PageRange Range, ulong Seed, ulong FirstPage, Prot Protection)
{
    public static Extent Zeros(PageRange range, Prot protection) => new(range, 0, 0, protection);

    public Extent Clip(PageRange to)
    {
        PageRange part = Range.Intersect(to);
        return this with { Range = part, FirstPage = FirstPage + (part.Start - Range.Start) / PageRange.PageSize };
    }

    public Extent MovedTo(ulong start) => this with { Range = new PageRange(start, start + Range.Length) };
}
