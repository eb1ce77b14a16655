namespace Pvmmap.Snapshots;

/// <summary>A range of a snapshot as a stream. Errors are those of <see cref="ProcessSnapshot.Read"/>.</summary>
internal sealed class SnapshotStream(ProcessSnapshot snapshot, ulong address, long length) : Stream
{
    private long _position;

    public override bool CanRead => true;

    public override bool CanSeek => true;

    public override bool CanWrite => false;

    public override long Length => length;

    public override long Position
    {
        get => _position;
        set
        {
            ArgumentOutOfRangeException.ThrowIfNegative(value);
            _position = value;
        }
    }

    public override int Read(Span<byte> buffer)
    {
        if (Position >= length || buffer.IsEmpty) return 0;
        Span<byte> wanted = buffer[..(int)Math.Min(buffer.Length, length - Position)];
        int got = snapshot.ReadSome(address + (ulong)Position, wanted);
        // It says what cannot be read, and why.
        if (got == 0) snapshot.Read(address + (ulong)Position, wanted);
        Position += got;
        return got;
    }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    public override long Seek(long offset, SeekOrigin origin)
    {
        long from = origin switch
        {
            SeekOrigin.Begin => 0,
            SeekOrigin.Current => _position,
            SeekOrigin.End => length,
            _ => throw new ArgumentException("no such origin", nameof(origin)),
        };
        // Before the range lies other memory, which is none of this stream's.
        if (offset < -from || offset > long.MaxValue - from) throw new IOException("a stream has no place before its beginning, nor one that 63 bits cannot tell");
        return _position = from + offset;
    }

    public override void Flush()
    {
    }

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
}
