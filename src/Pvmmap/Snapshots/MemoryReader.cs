using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;

namespace Pvmmap.Snapshots;

/// <summary>Memory on its way to the file.</summary>
/// <param name="Offset">Where in the file it goes.</param>
/// <param name="Bytes">The first <paramref name="Length"/> bytes of a buffer that goes back to the reader.</param>
/// <param name="Length">Whole pages.</param>
/// <param name="Read">Bytes of them that were to be read; zeros of memory that was never touched are the rest.</param>
internal readonly record struct CoreChunk(ulong Offset, byte[] Bytes, int Length, int Read);

/// <summary>
/// Reads the extents of all memory in the file's order, a few chunks ahead of who writes them, on a thread of its own: reading waits for memory, or for swap,
/// and writing for the disk or for a compressor.
/// </summary>
internal sealed class MemoryReader : IDisposable
{
    private const int ChunkBytes = 1 << 20, Chunks = 4;

    private readonly ICoreSource _source;
    private readonly IReadOnlyList<CoreContent> _contents;
    private readonly BlockingCollection<byte[]> _free = [];
    private readonly BlockingCollection<CoreChunk> _full = [];
    private readonly CancellationTokenSource _stop;
    private readonly List<PageRange> _unreadable = [];
    private readonly Thread _thread;
    private Exception? _failure;

    public MemoryReader(ICoreSource source, IReadOnlyList<CoreContent> contents, CancellationToken cancellation)
    {
        (_source, _contents) = (source, contents);
        for (int i = 0; i < Chunks; i++) GiveBack(new CoreChunk(0, new byte[ChunkBytes], 0, 0));
        _stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        _thread = new Thread(Run) { IsBackground = true, Name = "core reader" };
        _thread.Start();
    }

    /// <summary>Pages that could not be read, ascending, runs joined; complete when the last chunk is there.</summary>
    public IReadOnlyList<PageRange> Unreadable => _unreadable;

    /// <summary>The chunks in the order of the file. Each has to be given back.</summary>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    /// <exception cref="PvmmapException">What reading the source came to, but for EFAULT.</exception>
    public IEnumerable<CoreChunk> Read()
    {
        foreach (CoreChunk chunk in _full.GetConsumingEnumerable(_stop.Token)) yield return chunk;
        _thread.Join();
        if (_failure is not null) ExceptionDispatchInfo.Throw(_failure);
    }

    public void GiveBack(CoreChunk chunk) => _free.Add(chunk.Bytes);

    public void Dispose()
    {
        _stop.Cancel();
        _thread.Join();
        _stop.Dispose();
        _free.Dispose();
        _full.Dispose();
    }

    private void Run()
    {
        try
        {
            foreach (CoreContent content in _contents) Read(content);
        }
        catch (OperationCanceledException)
        {
            // whoever takes the chunks was cancelled too, or takes no more
        }
#pragma warning disable CA1031 // Thrown again where the chunks are taken.
        catch (Exception e)
#pragma warning restore CA1031
        {
            _failure = e;
        }
        finally
        {
            _full.CompleteAdding();
        }
    }

    private void Read(CoreContent content)
    {
        byte[]? bytes = null;
        PageRange window = default;
        int read = 0;

        void Send()
        {
            if (bytes is not null) _full.Add(new CoreChunk(content.Offset + (window.Start - content.Range.Start), bytes, (int)window.Length, read), _stop.Token);
            bytes = null;
        }

        foreach (PageRange extent in content.Extents)
        {
            for (ulong at = extent.Start; at < extent.End;)
            {
                if (bytes is not null && at >= window.Start + ChunkBytes) Send();
                if (bytes is null)
                {
                    bytes = _free.Take(_stop.Token);
                    (window, read) = (new PageRange(at, at), 0);
                }
                ulong end = Math.Min(extent.End, window.Start + ChunkBytes);
                bytes.AsSpan((int)window.Length, (int)(at - window.End)).Clear(); // never touched
                ReadPages(new PageRange(at, end), bytes.AsSpan((int)(at - window.Start), (int)(end - at)));
                window = new PageRange(window.Start, end);
                read += (int)(end - at);
                at = end;
            }
        }
        Send();
    }

    private void ReadPages(PageRange range, Span<byte> to)
    {
        int done = 0;
        while (done < to.Length)
        {
            int got = _source.ReadSome(range.Start + (ulong)done, to[done..]);
            done += got;
            if (got != 0 || done == to.Length) continue;

            // Nothing there: once more and the page alone, so that any other trouble than this page's is told.
            done -= done % (int)PageRange.PageSize;
            Span<byte> page = to.Slice(done, (int)PageRange.PageSize);
            ulong address = range.Start + (ulong)done;
            try
            {
                _source.Read(address, page);
            }
            catch (PvmmapException e) when (e.Errno == Errno.EFAULT)
            {
                page.Clear();
                NoteUnreadable(address);
            }
            done += page.Length;
        }
    }

    private void NoteUnreadable(ulong page)
    {
        if (_unreadable.Count != 0 && _unreadable[^1].End == page) _unreadable[^1] = new(_unreadable[^1].Start, page + PageRange.PageSize);
        else _unreadable.Add(new(page, page + PageRange.PageSize));
    }
}
