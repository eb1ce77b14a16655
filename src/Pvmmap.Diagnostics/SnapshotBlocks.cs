using Pvmmap.Snapshots;

namespace Pvmmap.Diagnostics;

/// <summary>
/// The memory of a snapshot, with the blocks kept that were read last: the runtime's library asks for a few bytes at a time, and memory that never changes
/// needs to be read only once. Any thread may read.
/// </summary>
internal sealed class SnapshotBlocks(ProcessSnapshot snapshot)
{
    private const ulong BlockSize = 16 << 10;
    private const int Slots = 512; // 8 MiB in all

    private readonly Block?[] _kept = new Block?[Slots];

    /// <summary>Reads from the address on.</summary>
    /// <returns>Bytes read, up to the first that cannot be.</returns>
    public int Read(ulong address, Span<byte> destination)
    {
        // what is larger would only push out the small
        if (destination.Length > (int)BlockSize) return snapshot.ReadSome(address, destination);
        int done = 0;
        while (done < destination.Length)
        {
            ulong at = address + (ulong)done;
            if (at < address) break; // past the end of all addresses
            int some = Get(at / BlockSize).Read(at, destination[done..]);
            if (some == 0) break;
            done += some;
        }

        return done;
    }

    private Block Get(ulong number)
    {
        ref Block? slot = ref _kept[number % Slots];
        Block? block = Volatile.Read(ref slot);
        if (block is null || block.Start != number * BlockSize)
        {
            block = new Block(snapshot, number * BlockSize);
            Volatile.Write(ref slot, block);
        }

        return block;
    }

    /// <summary>The pages of a block that can be read, which may begin and end anywhere in it: each page is tried that the one before it does not cover.</summary>
    private sealed class Block
    {
        private readonly byte[] _bytes = new byte[BlockSize];
        private readonly bool[] _present = new bool[BlockSize / PageRange.PageSize];

        public Block(ProcessSnapshot snapshot, ulong start)
        {
            Start = start;
            int page = 0;
            while (page < _present.Length)
            {
                int offset = page * (int)PageRange.PageSize;
                int pages = snapshot.ReadSome(start + (ulong)offset, _bytes.AsSpan(offset)) / (int)PageRange.PageSize;
                _present.AsSpan(page, pages).Fill(true);
                page += Math.Max(pages, 1);
            }
        }

        public ulong Start { get; }

        public int Read(ulong address, Span<byte> destination)
        {
            int from = (int)(address - Start), to = from;
            int end = Math.Min(from + destination.Length, _bytes.Length);
            while (to < end && _present[to / (int)PageRange.PageSize]) to = Math.Min(end, (to / (int)PageRange.PageSize + 1) * (int)PageRange.PageSize);
            _bytes.AsSpan(from, to - from).CopyTo(destination);
            return to - from;
        }
    }
}
