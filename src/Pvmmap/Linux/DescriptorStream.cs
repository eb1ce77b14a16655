namespace Pvmmap.Linux;

/// <summary>
/// Writes to a file, or to a pipe or socket. Errors are <see cref="PvmmapException"/>s that name what was written to, and no signal is needed to see them.
/// </summary>
/// <param name="descriptor">Stays open when the stream is disposed.</param>
/// <param name="name">For the errors.</param>
/// <param name="seekable">A regular file that nobody else writes to: the places are given with each write (pwrite).</param>
internal sealed class DescriptorStream(FileDescriptor descriptor, string name, bool seekable) : Stream
{
    private ulong _position;

    /// <summary>Bytes that were written, those written twice counted twice.</summary>
    public ulong BytesWritten { get; private set; }

    public override bool CanRead => false;

    public override bool CanWrite => true;

    public override bool CanSeek => seekable;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => (long)_position;
        set => Seek(value, SeekOrigin.Begin);
    }

    public override long Seek(long offset, SeekOrigin origin)
    {
        if (!seekable || origin == SeekOrigin.End) throw new NotSupportedException();
        _position = origin == SeekOrigin.Begin ? (ulong)offset : _position + (ulong)offset;
        return (long)_position;
    }

    public override void SetLength(long value)
    {
        if (!seekable) throw new NotSupportedException();
        Check(FileOutput.Truncate(descriptor, (ulong)value));
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        while (!buffer.IsEmpty)
        {
            SyscallResult written = seekable ? FileOutput.Write(descriptor, buffer, _position) : FileOutput.Write(descriptor, buffer);
            if (written.Errno == Errno.EAGAIN)
            {
                Poll.AwaitWritable(descriptor);
                continue;
            }
            Check(written.Errno);
            _position += (ulong)written.Value;
            BytesWritten += (ulong)written.Value;
            buffer = buffer[(int)written.Value..];
        }
    }

    public override void Flush() { }

    /// <summary>Sees to what file systems report at the end only.</summary>
    public void Settle() => Check(FileOutput.Settle(descriptor));

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    private void Check(Errno errno)
    {
        if (errno != Errno.None) throw new PvmmapException(errno, $"write {name}", hint: Hint(errno));
    }

    private static string? Hint(Errno errno) => errno switch
    {
        Errno.ENOSPC => "no space is left there; free some or write elsewhere",
        Errno.EDQUOT => "the disk quota is used up; free some or write elsewhere",
        Errno.EFBIG => "the file would be larger than the file system or the limit RLIMIT_FSIZE (ulimit -f) allows",
        Errno.EPIPE => "the reader has ended",
        _ => null,
    };
}
