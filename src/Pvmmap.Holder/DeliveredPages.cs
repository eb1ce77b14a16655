namespace Pvmmap.Holder.Freestanding;

/// <summary>
/// Pages that were delivered to somebody who waited for them, and that the holder still has: to drop them at once would keep the next one waiting.
/// They go when nothing comes for a moment, before they would be more than a batch, and before anything else happens to the range.
/// </summary>
internal static unsafe class DeliveredPages
{
    /// <summary>Bytes. So much more than the pages themselves may be in use at a time.</summary>
    private const ulong Most = 256 * 1024;

    /// <summary>How many go to make room: with more of them whoever waits next would notice.</summary>
    private const uint AtOnce = 8;

    /// <summary>To be called before as much is delivered.</summary>
    public static void MakeRoom(Service* service, ulong bytes)
    {
        if (service->Control->DeliveredCount == ControlPage.MaximumDelivered || service->DeliveredBytes + bytes > Most)
            Drop(service, AtOnce, bytes > Most ? 0 : Most - bytes);
    }

    public static void Add(Service* service, ulong start, ulong end)
    {
        uint count = service->Control->DeliveredCount;
        DeliveredPiece* pieces = service->DeliveredPieces;
        service->DeliveredBytes += end - start;
        if (count != 0 && pieces[count - 1].End == start)
        {
            Published.Write(&pieces[count - 1].End, end);
            return;
        }
        pieces[count].Start = start;
        pieces[count].End = end;
        // Last: whoever goes on in the holder's place drops what is counted.
        Published.Write(&service->Control->DeliveredCount, count + 1);
    }

    /// <summary>Drops them all.</summary>
    public static void Drop(Service* service) => Drop(service, ControlPage.MaximumDelivered, 0);

    /// <summary>Drops what a holder that was killed has left behind, after a move: perhaps it had begun to.</summary>
    public static void TakeOver(Service* service)
    {
        DeliveredPiece* pieces = service->DeliveredPieces;
        for (uint i = 0; i < service->Control->DeliveredCount; i++)
            Delivery.Drop(service, pieces[i].Start, pieces[i].End);
        Published.Write(&service->Control->DeliveredCount, 0);
    }

    // At least so many pieces, and until no more than so many bytes are left; the latest first.
    private static void Drop(Service* service, uint pieces, ulong left)
    {
        uint count = service->Control->DeliveredCount;
        if (count == 0 || service->Recovering)
            return;
        for (; count != 0 && (pieces != 0 || service->DeliveredBytes > left); pieces = pieces == 0 ? 0 : pieces - 1)
        {
            DeliveredPiece* piece = service->DeliveredPieces + --count;
            ulong bytes = piece->End - piece->Start;
            Delivery.DropPopulated(service, piece->Start, piece->End, bytes);
            service->DeliveredBytes -= bytes;
            Published.Write(&service->Control->DeliveredCount, count);
        }
        Steps.Reached(service->Call, FillStep.FaultDropped);
    }
}
