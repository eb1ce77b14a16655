using System.Runtime.InteropServices;
using Pvmmap.Linux;

namespace Pvmmap.Remote;

/// <summary>
/// The first steps of a child that is to run our code, on the trampoline that it has inherited: it gives up the memory that it is not there for, maps room for the
/// code and makes a pair of sockets, without a stop in between, and then stands still. If the tracer is gone by then, it is too (PTRACE_O_EXITKILL). This is what
/// it finds at <see cref="Trampoline.SettlingDataOffset"/>, and leaves there.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
internal struct Settling
{
    private Piece first, second, third;

    /// <summary>Bytes of the room, whole pages; then its address, or an errno.</summary>
    public long Room;

    public int TheirSocket, OurSocket;

    /// <summary>0, or why there are no sockets.</summary>
    public long Pairing;

    private ulong codeBytes;

    [StructLayout(LayoutKind.Sequential)]
    private struct Piece
    {
        public ulong Start, Length;

        public static Piece Of(ulong start, ulong end) => new() { Start = start, Length = end - start };
    }

    /// <param name="kept">What it is there for; null if it gives up nothing here.</param>
    /// <param name="trampoline">The pages that it runs on meanwhile.</param>
    /// <param name="roomBytes">What it needs for code, arguments and stacks.</param>
    /// <param name="codeBytes">What of that is for the code: whole pages. They are a mapping of their own from the beginning, so that nothing can be lacking for it later.</param>
    public static Settling Of(PageRange? kept, PageRange trampoline, ulong roomBytes, ulong codeBytes)
    {
        // Not made, unless it says so.
        Settling settling = new() { Room = (long)roomBytes, codeBytes = codeBytes, Pairing = -(long)Errno.EAGAIN };
        if (kept is not { } range) return settling;
        // What has to be given up piece by piece, because some of it is sealed, and these pages, the holder gives up itself.
        (PageRange low, PageRange high) = range.Start < trampoline.Start ? (range, trampoline) : (trampoline, range);
        settling.first = Piece.Of(0, low.Start);
        settling.second = Piece.Of(low.End, high.Start);
        settling.third = Piece.Of(high.End, Processor.AddressSpaceEnd);
        return settling;
    }
}
