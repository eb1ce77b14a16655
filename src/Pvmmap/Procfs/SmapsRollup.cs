namespace Pvmmap.Procfs;

/// <summary>/proc/PID/smaps_rollup (Linux 4.14).</summary>
internal static class SmapsRollup
{
    /// <summary>Bytes that no other process maps: Private_Clean and Private_Dirty, and SwapPss.</summary>
    /// <exception cref="PvmmapException">ESRCH or EPERM.</exception>
    public static ulong OwnBytes(int pid) => ProcFile.Parse(pid, "smaps_rollup", OwnBytes);

    internal static ulong OwnBytes(ReadOnlySpan<byte> text)
    {
        ulong bytes = 0;
        // The first line is the range.
        for (bool first = true; ProcText.NextLine(ref text, out ReadOnlySpan<byte> lineText); first = false)
        {
            if (first) continue;
            var line = new ProcText(lineText);
            ReadOnlySpan<byte> name = line.Name();
            if (name.SequenceEqual("Private_Clean"u8) || name.SequenceEqual("Private_Dirty"u8) || name.SequenceEqual("SwapPss"u8)) bytes += line.Kilobytes();
        }
        return bytes;
    }
}
