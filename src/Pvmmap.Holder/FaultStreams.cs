using System.Runtime.InteropServices;

namespace Pvmmap.Holder.Freestanding;

/// <summary>Somebody in a target who reads or writes page after page.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct FaultStream
{
    /// <summary>The address at which the next fault is to be expected: behind what was delivered last.</summary>
    public ulong Next;
    /// <summary>Bytes to deliver from the faulting page on.</summary>
    public ulong Around;
    public uint Context;
}

[StructLayout(LayoutKind.Sequential, Size = FaultStreams.Count * 24)]
internal struct FaultStreamTable
{
    public FaultStream First;
}

/// <summary>
/// Learns who goes through memory in order: each fault where one was expected doubles what is delivered along with the page, so that faults
/// become rare; a fault anywhere else brings its page and nothing that whoever waits for it would have to wait for, too.
/// </summary>
internal static unsafe class FaultStreams
{
    public const int Count = 4;
    /// <summary>Bytes that are delivered behind a page when nobody waits.</summary>
    public const ulong Behind = 3 * Kernel.PageSize;
    private const ulong First = 4 * Kernel.PageSize;
    private const ulong Most = 64 * Kernel.PageSize;

    public static void Reset(Service* service)
    {
        service->OldestStream = 0;
        for (uint i = 0; i < Count; i++)
        {
            FaultStream* stream = &service->Streams.First + i;
            stream->Next = 0;
            stream->Around = Kernel.PageSize;
            stream->Context = 0;
        }
    }

    /// <summary>More was delivered behind what a stream got last: there the next fault is to be expected.</summary>
    public static void Advance(Service* service, uint context, ulong from, ulong to)
    {
        for (uint i = 0; i < Count; i++)
        {
            FaultStream* stream = &service->Streams.First + i;
            if (stream->Next == from && stream->Context == context)
                stream->Next = to;
        }
    }

    /// <summary>The stream that a fault belongs to; a new one, in place of the oldest, when it belongs to none.</summary>
    public static FaultStream* Find(Service* service, uint context, ulong page)
    {
        for (uint i = 0; i < Count; i++)
        {
            FaultStream* stream = &service->Streams.First + i;
            if (stream->Next != page || stream->Context != context)
                continue;
            if (stream->Around < Most)
                stream->Around = stream->Around < First ? First : stream->Around * 2;
            return stream;
        }
        FaultStream* fresh = &service->Streams.First + service->OldestStream;
        service->OldestStream = (service->OldestStream + 1) % Count;
        fresh->Next = 0;
        fresh->Around = Kernel.PageSize;
        fresh->Context = context;
        return fresh;
    }
}
