using System.Buffers.Binary;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>A core file, read by the book (elf(5)) and with nothing of the code that writes it.</summary>
internal sealed class CoreImage : IDisposable
{
    private readonly FileStream _file;

    public CoreImage(string path)
    {
        _file = File.OpenRead(path);
        byte[] header = At(0, 64);
        ulong table = BinaryPrimitives.ReadUInt64LittleEndian(header.AsSpan(32)), sections = BinaryPrimitives.ReadUInt64LittleEndian(header.AsSpan(40));
        uint count = BinaryPrimitives.ReadUInt16LittleEndian(header.AsSpan(56));
        if (count == 0xffff) count = BinaryPrimitives.ReadUInt32LittleEndian(At(sections, 64).AsSpan(44));
        byte[] rows = At(table, (int)count * 56);
        for (int at = 0; at < rows.Length; at += 56)
        {
            ReadOnlySpan<byte> row = rows.AsSpan(at);
            if (BinaryPrimitives.ReadUInt32LittleEndian(row) != 1) continue;
            ulong start = BinaryPrimitives.ReadUInt64LittleEndian(row[16..]);
            Loads.Add(new Load(new PageRange(start, start + BinaryPrimitives.ReadUInt64LittleEndian(row[40..])),
                BinaryPrimitives.ReadUInt64LittleEndian(row[8..]), BinaryPrimitives.ReadUInt64LittleEndian(row[32..])));
        }
    }

    public List<Load> Loads { get; } = [];

    /// <summary>What a debugger finds at an address; null where the core has no content.</summary>
    public byte[]? Read(ulong address, int length)
    {
        foreach (Load load in Loads)
        {
            if (load.Range.Start <= address && address + (ulong)length <= load.Range.Start + load.FileBytes) return At(load.Offset + address - load.Range.Start, length);
        }
        return null;
    }

    /// <summary>Fails with the first page that does not hold the pattern.</summary>
    public unsafe void AssertContent(ulong address, ulong length, ulong seed, ulong firstPage = 0)
    {
        byte[]? bytes = Read(address, (int)length);
        Assert.True(bytes is not null, $"the core has no content for 0x{address:x} + {length}");
        fixed (byte* from = bytes)
        {
            Census seen = Pattern.Examine((ulong)from, length, seed, firstPage, 1);
            Assert.True(seen.Good == length / PageRange.PageSize, $"0x{address:x} + {length} of the core should hold seed {seed}: {seen}");
        }
    }

    public void Dispose() => _file.Dispose();

    private byte[] At(ulong offset, int length)
    {
        byte[] bytes = new byte[length];
        _file.Position = (long)offset;
        _file.ReadExactly(bytes);
        return bytes;
    }

    public sealed record Load(PageRange Range, ulong Offset, ulong FileBytes);
}
