using System.Runtime.InteropServices;

namespace Pvmmap.Holder.Freestanding;

/// <summary>
/// Which pages each context has got on demand while there were several: a bit for each page of the range. A page is dropped when everybody to whom it is owed has it. The kernel
/// cannot be asked: a copy from where nothing is fails before it looks at the page. The bits are memory of the holder's own, which that of a move has not, and which may be refused:
/// then what was delivered meanwhile stays until it is owed to nobody.
/// </summary>
internal static unsafe class Receipts
{
    private const long MAP_PRIVATE = 2;
    private const long MAP_ANONYMOUS = 0x20;
    private const ulong PagesInWord = 64;

    /// <summary>What is looked through at a time, while nobody waits: 64 MiB.</summary>
    private const ulong PagesAtOnce = 256 * PagesInWord;

    /// <summary>A context has got pages, all of them populated.</summary>
    public static void Add(Service* service, uint context, ulong start, ulong end)
    {
        if (!Sign(service, context, start, end))
            return;
        while (start < end)
        {
            ulong settled = start;
            while (settled < end && !IsOwed(service, settled))
                settled += Kernel.PageSize;
            if (settled > start)
            {
                DeliveredPages.MakeRoom(service, settled - start);
                DeliveredPages.Add(service, start, settled);
            }
            start = settled + Kernel.PageSize;
        }
    }

    /// <summary>The same of one page, populated or not.</summary>
    public static void AddDoubtful(Service* service, uint context, ulong page)
    {
        if (!Sign(service, context, page, page + Kernel.PageSize) || IsOwed(service, page))
            return;
        // It may be among them, when it had come along with another: it counts once.
        DeliveredPages.Drop(service);
        Delivery.Drop(service, page, page + Kernel.PageSize);
    }

    /// <summary>What the parent has, the child has too, and nothing else, whoever had its place before.</summary>
    public static void Fork(Service* service, uint parent, uint child)
    {
        ulong** all = Table(service);
        if (all[child] != null)
            Kernel.Unmap(service->Call, (ulong)all[child], Bytes(service));
        all[child] = null;
        if (all[parent] == null || !Map(service, child))
            return;
        for (ulong i = 0; i < Bytes(service) / sizeof(ulong); i++)
        {
            // What is not written takes no memory.
            if (all[parent][i] != 0)
                all[child][i] = all[parent][i];
        }
    }

    /// <summary>Something is owed to somebody no more: who is left may have it.</summary>
    public static void LookAgain(Service* service) => service->LookedThrough = 0;

    /// <summary>Drops what everybody has. Breaks off, to go on another time, when a message waits.</summary>
    public static void Settle(Service* service)
    {
        ulong pages = service->Control->SourceLength / Kernel.PageSize;
        while (service->LookedThrough < pages && service->HasReceipts)
        {
            ulong rest = pages - service->LookedThrough;
            ulong end = service->LookedThrough + (rest < PagesAtOnce ? rest : PagesAtOnce);
            Settle(service, service->LookedThrough, end);
            service->LookedThrough = end;
            Loop.Wait(service, 0, out bool ready);
            if (ready)
                return;
        }
    }

    private static void Settle(Service* service, ulong page, ulong end)
    {
        ulong first = service->Control->SourceStart;
        ulong run = page;
        while (page < end)
        {
            bool all = page % PagesInWord == 0 && Word(service, page) == 0;
            bool settled = !all && (Word(service, page) >> (int)(page % PagesInWord) & 1) != 0 && !IsOwed(service, first + page * Kernel.PageSize);
            if (!settled && run < page)
                Delivery.Drop(service, first + run * Kernel.PageSize, first + page * Kernel.PageSize);
            page += all ? PagesInWord : 1;
            if (!settled)
                run = page;
        }
        if (run < end)
            Delivery.Drop(service, first + run * Kernel.PageSize, first + end * Kernel.PageSize);
    }

    // The bits of 64 pages that any living context has.
    private static ulong Word(Service* service, ulong page)
    {
        ulong word = 0;
        for (uint i = 0; i < service->Control->ContextCount; i++)
        {
            ulong* bits = Table(service)[i];
            if (bits != null && Service.IsAlive(service, i))
                word |= bits[page / PagesInWord];
        }
        return word;
    }

    // Whether some context has not got it yet.
    private static bool IsOwed(Service* service, ulong source)
    {
        ulong page = (source - service->Control->SourceStart) / Kernel.PageSize;
        for (uint i = 0; i < service->Control->SegmentCount; i++)
        {
            ControlSegment* segment = service->Segments + i;
            if (segment->Length == 0 || (segment->Zero & ~SegmentTable.Parked) != SegmentTable.Content || source - segment->Source >= segment->Length)
                continue;
            ulong* bits = Table(service)[segment->Context];
            if (bits == null || (bits[page / PagesInWord] >> (int)(page % PagesInWord) & 1) == 0)
                return true;
        }
        return false;
    }

    private static bool Sign(Service* service, uint context, ulong start, ulong end)
    {
        if (Table(service)[context] == null && !Map(service, context))
            return false;
        ulong* bits = Table(service)[context];
        ulong last = (end - service->Control->SourceStart) / Kernel.PageSize;
        for (ulong page = (start - service->Control->SourceStart) / Kernel.PageSize; page < last; page++)
            bits[page / PagesInWord] |= 1UL << (int)(page % PagesInWord);
        return true;
    }

    private static bool Map(Service* service, uint context)
    {
        if (service->Control->Move != 0)
            return false;
        // What is still to be given up would take it along.
        Inheritance.GiveUpLater(service);
        long mapped = service->Call(SystemCalls.mmap, 0, (long)Bytes(service), Kernel.PROT_READ | Kernel.PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapped < 0)
            return false;
        Table(service)[context] = (ulong*)mapped;
        service->HasReceipts = true;
        return true;
    }

    private static ulong** Table(Service* service) => (ulong**)&service->Receipts.First;

    private static ulong Bytes(Service* service)
    {
        const ulong pagesInPage = Kernel.PageSize * 8;
        ulong pages = service->Control->SourceLength / Kernel.PageSize;
        return (pages + pagesInPage - 1) / pagesInPage * Kernel.PageSize;
    }
}

/// <summary>For each context where its bits are; 0: it has none.</summary>
[StructLayout(LayoutKind.Sequential, Size = ControlPage.MaximumContexts * 8)]
internal struct ReceiptTable
{
    public ulong First;
}
