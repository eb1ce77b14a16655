using System.Buffers.Binary;
using System.Text;

namespace Pvmmap.Tests.Snapshots;

/// <summary>Reads a core file by the book, elf(5), with nothing of the code that writes it.</summary>
internal sealed class CoreFile
{
    private readonly byte[] _bytes;

    public CoreFile(byte[] bytes)
        : this(bytes, hasNotes: true)
    {
    }

    private CoreFile(byte[] bytes, bool hasNotes)
    {
        _bytes = bytes;
        ReadOnlySpan<byte> span = bytes;
        ProgramHeaderOffset = BinaryPrimitives.ReadUInt64LittleEndian(span[32..]);
        ulong sections = BinaryPrimitives.ReadUInt64LittleEndian(span[40..]);
        ushort told = BinaryPrimitives.ReadUInt16LittleEndian(span[56..]);
        IsExtended = told == 0xffff;
        Count = IsExtended ? BinaryPrimitives.ReadUInt32LittleEndian(span[((int)sections + 44)..]) : told;
        for (uint i = 0; i < Count; i++)
        {
            ReadOnlySpan<byte> at = span[((int)ProgramHeaderOffset + (int)i * 56)..];
            Headers.Add(new Header(
                BinaryPrimitives.ReadUInt32LittleEndian(at), BinaryPrimitives.ReadUInt32LittleEndian(at[4..]), BinaryPrimitives.ReadUInt64LittleEndian(at[8..]),
                BinaryPrimitives.ReadUInt64LittleEndian(at[16..]), BinaryPrimitives.ReadUInt64LittleEndian(at[32..]), BinaryPrimitives.ReadUInt64LittleEndian(at[40..])));
        }
        if (!hasNotes) return;
        Header notes = Headers[0];
        for (int at = (int)notes.Offset, end = at + (int)notes.FileBytes; at < end;)
        {
            int name = BinaryPrimitives.ReadInt32LittleEndian(span[at..]), content = BinaryPrimitives.ReadInt32LittleEndian(span[(at + 4)..]);
            uint type = BinaryPrimitives.ReadUInt32LittleEndian(span[(at + 8)..]);
            int from = at + 12 + (name + 3) / 4 * 4;
            Notes.Add(new Note(Encoding.ASCII.GetString(bytes, at + 12, name - 1), type, bytes[from..(from + content)]));
            at = from + (content + 3) / 4 * 4;
        }
    }

    /// <summary>Its program headers, of a file of which only the beginning is there.</summary>
    public static CoreFile Headed(byte[] start) => new(start, hasNotes: false);

    public ulong ProgramHeaderOffset { get; }

    public bool IsExtended { get; }

    public uint Count { get; }

    public List<Header> Headers { get; } = [];

    public List<Note> Notes { get; } = [];

    public IEnumerable<Header> Loads => Headers.Skip(1);

    /// <summary>What a debugger sees at an address; null where the core has nothing.</summary>
    public byte[]? Read(ulong address, int length)
    {
        foreach (Header load in Loads)
        {
            if (load.Address <= address && address + (ulong)length <= load.Address + load.FileBytes)
                return _bytes[(int)(load.Offset + address - load.Address)..][..length];
        }
        return null;
    }

    internal sealed record Header(uint Type, uint Flags, ulong Offset, ulong Address, ulong FileBytes, ulong MemoryBytes);

    internal sealed record Note(string Name, uint Type, byte[] Content);
}
