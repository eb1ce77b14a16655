namespace Pvmmap.ConformanceTests.Stage;

/// <summary>What a range of pages was found to hold.</summary>
/// <param name="Good">Pages that hold what they should.</param>
/// <param name="Zero">Pages of zeros where content should be.</param>
/// <param name="Wrong">Pages with other content.</param>
/// <param name="SigBus">Pages whose reading raised SIGBUS.</param>
/// <param name="SegV">Pages whose reading raised SIGSEGV.</param>
/// <param name="At">Address of the first page that is not good; 0 when all are.</param>
/// <param name="Kind">What that page holds instead.</param>
public readonly record struct Census(ulong Good, ulong Zero, ulong Wrong, ulong SigBus, ulong SegV, ulong At, string Kind)
{
    public ulong Pages => Good + Zero + Wrong + SigBus + SegV;

    public override string ToString() =>
        At == 0 ? $"{Good} good pages" : $"{Good} good, {Zero} zero, {Wrong} wrong, {SigBus} SIGBUS, {SegV} SIGSEGV; first bad page 0x{At:x}: {Kind}";
}

/// <summary>The content of a page: its first word names seed and page, the others follow from it. programs/pattern.h says the same in C.</summary>
internal static unsafe class Pattern
{
    private const ulong PageSize = 4096, Words = PageSize / 8;

    public static ulong FirstWord(ulong seed, ulong page) => (seed & 0xffffff) << 40 | (page & 0xff_ffff_ffff);

    public static ulong WordAt(ulong first, ulong index)
    {
        ulong x = unchecked(first + index * 0x9e3779b97f4a7c15);
        return index == 0 ? first : unchecked((x ^ x >> 29) * 0xbf58476d1ce4e5b9);
    }

    /// <summary>Every <paramref name="step"/>th page gets the pattern; the others are left alone.</summary>
    public static void Fill(ulong address, ulong length, ulong seed, ulong firstPage, ulong step)
    {
        for (ulong at = address, page = firstPage; at < address + length; at += PageSize, page++)
        {
            if (page % step != 0) continue;
            ulong first = FirstWord(seed, page);
            for (ulong i = 0; i < Words; i++) ((ulong*)at)[i] = WordAt(first, i);
        }
    }

    public static Census Examine(ulong address, ulong length, ulong seed, ulong firstPage, ulong step)
    {
        ulong good = 0, zeros = 0, wrong = 0, firstBad = 0;
        string kind = "";
        for (ulong at = address, page = firstPage; at < address + length; at += PageSize, page++)
        {
            ulong wanted = page % step == 0 ? FirstWord(seed, page) : 0, bad = Words, held = *(ulong*)at;
            bool zero = true;
            for (ulong i = 0; i < Words; i++)
            {
                ulong word = ((ulong*)at)[i];
                zero &= word == 0;
                if (bad == Words && word != (wanted == 0 ? 0 : WordAt(wanted, i))) bad = i;
            }
            if (bad == Words) { good++; continue; }
            if (zero) zeros++; else wrong++;
            if (firstBad != 0) continue;
            firstBad = at;
            kind = $"{(zero ? "zero" : bad == 0 ? "other" : "torn")};word={bad};holds=seed:{held >> 40},page:{held & 0xff_ffff_ffff}";
        }
        return new Census(good, zeros, wrong, 0, 0, firstBad, kind);
    }
}
