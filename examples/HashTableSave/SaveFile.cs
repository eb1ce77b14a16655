namespace HashTableSave;

/// <summary>A file that has its name when it is whole and on disk, and not before.</summary>
internal static class SaveFile
{
    private const int Chunk = 1 << 20;

    public static void Write(string path, Stream content, CancellationToken cancellation)
    {
        string partial = Path.Combine(Path.GetDirectoryName(path)!, $".{Path.GetFileName(path)}.{Environment.ProcessId}.partial");
        try
        {
            using (FileStream file = new(partial, FileMode.Create, FileAccess.Write, FileShare.None, bufferSize: 0))
            {
                Copy(content, file, cancellation);
                file.Flush(flushToDisk: true);
            }
            File.Move(partial, path, overwrite: true);
        }
        catch
        {
            File.Delete(partial);
            throw;
        }
    }

    public static void Copy(Stream from, Stream to, CancellationToken cancellation)
    {
        byte[] buffer = new byte[Chunk];
        for (int got; (got = from.Read(buffer)) > 0;)
        {
            cancellation.ThrowIfCancellationRequested();
            to.Write(buffer, 0, got);
        }
    }
}
