using System.Diagnostics;
using Pvmmap.Linux;

namespace Pvmmap.Snapshots;

/// <summary>
/// Writes a snapshot as an ELF core file, as the kernel does for a process that dies: for gdb, lldb, drgn, eu-readelf. The process itself has been
/// running on since the snapshot was taken.
/// </summary>
public static class CoreDump
{
    // Zeros in the middle of content up to this length are written: a hole is more work for the file system than they are.
    private const int LeastHole = 32 * 1024;

    private static readonly byte[] s_zeros = new byte[1 << 20];

    /// <summary>Writes to a stream.</summary>
    /// <param name="snapshot">What to write; it is only read.</param>
    /// <param name="output">
    /// Where to. If it can be sought in, it is cut off at its position first, and memory that was never touched becomes holes; else zeros are written for it.
    /// </param>
    /// <param name="options">Which memory; <see cref="CoreDumpOptions.Overwrite"/> and <see cref="CoreDumpOptions.Encoding"/> are not for streams.</param>
    /// <param name="progress">Told after each MiB or so, on the calling thread.</param>
    /// <param name="cancellation">Ends it; what is in the stream then is no core file.</param>
    /// <exception cref="PvmmapException">EAGAIN: the snapshot's keeper was killed. Otherwise whatever the stream throws.</exception>
    public static CoreDumpResult Write(
        ProcessSnapshot snapshot, Stream output, CoreDumpOptions? options = null, IProgress<CoreDumpProgress>? progress = null,
        CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        return Write(new SnapshotCoreSource(snapshot), output, options ?? new(), progress, cancellation);
    }

    /// <summary>
    /// Writes a file that its user alone may read. It gets its name when it is whole: whatever goes wrong, and be it a SIGKILL, no half file of
    /// that name is there.
    /// </summary>
    /// <remarks>Where the file system has no O_TMPFILE (NFS, FAT) a SIGKILL leaves .pvmmap.PID.NUMBER.partial beside it; any other end does not.</remarks>
    /// <param name="snapshot">What to write; it is only read.</param>
    /// <param name="path">Name of the file.</param>
    /// <param name="options">Which memory, and how to write it.</param>
    /// <param name="progress">Told after each MiB or so, on the calling thread.</param>
    /// <param name="cancellation">Ends it, without a file.</param>
    /// <exception cref="PvmmapException">
    /// EEXIST: the name is taken, and <see cref="CoreDumpOptions.Overwrite"/> not set. ENAMETOOLONG, EROFS and the like: no file can have that name, which is
    /// found before anything is read. ENOSPC, EDQUOT, EFBIG: no room. EAGAIN: the snapshot's
    /// keeper was killed. Others as open(2) and write(2) give them.
    /// </exception>
    public static CoreDumpResult Write(
        ProcessSnapshot snapshot, string path, CoreDumpOptions? options = null, IProgress<CoreDumpProgress>? progress = null,
        CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        return Write(new SnapshotCoreSource(snapshot), path, options ?? new(), progress, cancellation);
    }

    /// <summary>Into a file that was begun before the snapshot was taken.</summary>
    internal static CoreDumpResult Write(
        ProcessSnapshot snapshot, NewFile file, CoreDumpOptions options, IProgress<CoreDumpProgress>? progress, CancellationToken cancellation) =>
        Write(new SnapshotCoreSource(snapshot), file, options, progress, cancellation);

    internal static CoreDumpResult Write(
        ICoreSource source, string path, CoreDumpOptions options, IProgress<CoreDumpProgress>? progress, CancellationToken cancellation, bool unnamed = true)
    {
        using NewFile file = NewFile.Begin(path, options.Overwrite, unnamed);
        return Write(source, file, options, progress, cancellation);
    }

    private static CoreDumpResult Write(
        ICoreSource source, NewFile file, CoreDumpOptions options, IProgress<CoreDumpProgress>? progress, CancellationToken cancellation)
    {
        CoreDumpResult result;
        if (options.Encoding is null)
        {
            result = Write(source, file.Content, options, progress, cancellation);
        }
        else
        {
            using Stream encoded = options.Encoding(file.Content);
            result = Write(source, encoded, options, progress, cancellation);
        }
        cancellation.ThrowIfCancellationRequested();
        file.Publish();
        return result with { OutputBytes = file.Content.BytesWritten };
    }

    internal static CoreDumpResult Write(
        ICoreSource source, Stream output, CoreDumpOptions options, IProgress<CoreDumpProgress>? progress, CancellationToken cancellation)
    {
        long begin = Stopwatch.GetTimestamp();
        CoreFilter filter = options.Filter ?? CoreFilters.Usual((CoreFilter)source.Identity.CoreDumpFilter, source.Ranges);
        (IReadOnlyList<CoreSegment> segments, IReadOnlyList<SnapshotRange> missing) = CoreSegment.Choose(source, filter, options.IncludeDontDump);
        byte[] notes = ElfNotes.Write(source);
        var layout = new ElfCoreLayout(segments, notes.Length);
        ulong total = segments.Aggregate(0UL, (sum, segment) => sum + Length(segment.Extents)), done = 0;
        cancellation.ThrowIfCancellationRequested();

        var to = new CoreOutput(output, cancellation);
        to.Write(0, layout.Start(notes));
        using var reader = new MemoryReader(source, layout.Contents, cancellation);
        foreach (CoreChunk chunk in reader.Read())
        {
            to.Write(chunk.Offset, chunk.Bytes.AsSpan(0, chunk.Length));
            reader.GiveBack(chunk);
            done += (ulong)chunk.Read;
            progress?.Report(new CoreDumpProgress(done, total));
        }

        ulong end = layout.End;
        IReadOnlyList<CoreLoad> loads = layout.Loads;
        if (reader.Unreadable.Count != 0 && output.CanSeek)
        {
            // The table gets longer, so it goes behind the memory; the file header, which is last to change, says so.
            loads = [.. loads.SelectMany(load => load.Without(reader.Unreadable))];
            byte[] table = layout.Table(loads);
            to.Write(end, table);
            to.Write(0, ElfCoreLayout.FileHeader(end, loads.Count + 1));
            end += (ulong)table.Length;
        }
        to.EndAt(end);
        return new CoreDumpResult
        {
            CoreBytes = end,
            MemoryBytes = done - Length(reader.Unreadable),
            Time = Stopwatch.GetElapsedTime(begin),
            Segments = loads.Count,
            Threads = source.Threads.Count,
            Unreadable = RangeSet.Joined(segments.SelectMany(segment => segment.Lost).Concat(reader.Unreadable)),
            WrittenAsZeros = output.CanSeek ? [] : [.. reader.Unreadable],
            Missing = missing,
        };
    }

    private static ulong Length(IReadOnlyList<PageRange> ranges) => ranges.Aggregate(0UL, (sum, range) => sum + range.Length);

    /// <summary>A stream as a file with places: holes if it can be sought in, zeros if not.</summary>
    private sealed class CoreOutput
    {
        private readonly Stream _stream;
        private readonly CancellationToken _cancellation;
        private readonly ulong _start;
        private ulong _at;

        public CoreOutput(Stream stream, CancellationToken cancellation)
        {
            (_stream, _cancellation) = (stream, cancellation);
            if (!stream.CanSeek) return;
            _start = (ulong)stream.Position;
            stream.SetLength(stream.Position);
        }

        public void Write(ulong offset, ReadOnlySpan<byte> bytes)
        {
            if (!_stream.CanSeek)
            {
                WriteZerosTo(offset);
                Append(bytes);
                return;
            }
            while (!bytes.IsEmpty)
            {
                int hole = Hole(bytes), content = Content(bytes[hole..]);
                offset += (ulong)hole;
                if (content != 0)
                {
                    if (_at != offset) _stream.Position = (long)(_start + offset);
                    _at = offset;
                    Append(bytes.Slice(hole, content));
                }
                offset += (ulong)content;
                bytes = bytes[(hole + content)..];
            }
        }

        public void EndAt(ulong end)
        {
            if (_stream.CanSeek)
            {
                _stream.SetLength((long)(_start + end));
                _stream.Position = (long)(_start + end);
            }
            else
            {
                WriteZerosTo(end);
            }
            _stream.Flush();
        }

        private void Append(ReadOnlySpan<byte> bytes)
        {
            _stream.Write(bytes);
            _at += (ulong)bytes.Length;
        }

        private void WriteZerosTo(ulong offset)
        {
            while (_at < offset)
            {
                _cancellation.ThrowIfCancellationRequested();
                Append(s_zeros.AsSpan(0, (int)Math.Min(offset - _at, (ulong)s_zeros.Length)));
            }
        }

        /// <summary>Zeros at the beginning, in whole pages; 0 if they are too few for a hole.</summary>
        private static int Hole(ReadOnlySpan<byte> bytes)
        {
            int zeros = bytes.IndexOfAnyExcept((byte)0) is >= 0 and var first ? first - first % (int)PageRange.PageSize : bytes.Length;
            return zeros >= LeastHole || zeros == bytes.Length ? zeros : 0;
        }

        /// <summary>Bytes up to the next hole.</summary>
        private static int Content(ReadOnlySpan<byte> bytes)
        {
            const int page = (int)PageRange.PageSize;
            for (int at = 0; at < bytes.Length;)
            {
                int zeros = 0;
                while (at + zeros < bytes.Length && bytes.Slice(at + zeros, Math.Min(page, bytes.Length - at - zeros)).IndexOfAnyExcept((byte)0) < 0) zeros += page;
                if (zeros >= LeastHole || (zeros != 0 && at + zeros >= bytes.Length)) return at;
                at += zeros + page;
            }
            return bytes.Length;
        }
    }
}
