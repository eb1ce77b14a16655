using System.Buffers.Text;
using System.Text;

namespace Pvmmap.Procfs;

/// <summary>Reads the fields of one line of a /proc file from left to right; anything unexpected is a <see cref="FormatException"/>.</summary>
internal ref struct ProcText(ReadOnlySpan<byte> line)
{
    private readonly ReadOnlySpan<byte> _line = line;

    /// <summary>What has not been read yet.</summary>
    public ReadOnlySpan<byte> Rest { get; private set; } = line;

    /// <summary>Takes the next line off <paramref name="text"/>, without its newline; the last line may lack one.</summary>
    public static bool NextLine(ref ReadOnlySpan<byte> text, out ReadOnlySpan<byte> line)
    {
        int end = text.IndexOf((byte)'\n');
        line = end < 0 ? text : text[..end];
        if (text.IsEmpty) return false;
        text = end < 0 ? default : text[(end + 1)..];
        return true;
    }

    public void SkipBlanks() => Rest = Rest.TrimStart(" \t"u8);

    /// <summary>Reads "Name:" at the start of a line.</summary>
    public ReadOnlySpan<byte> Name()
    {
        int colon = Rest.IndexOf((byte)':');
        if (colon < 0) throw Malformed();
        ReadOnlySpan<byte> name = Rest[..colon];
        Rest = Rest[(colon + 1)..];
        return name;
    }

    public void Expect(char c)
    {
        if (Rest.IsEmpty || Rest[0] != (byte)c) throw Malformed();
        Rest = Rest[1..];
    }

    /// <summary>Reads one of two letters; true if it is the first.</summary>
    public bool Either(char yes, char no)
    {
        if (Rest.IsEmpty || (Rest[0] != (byte)yes && Rest[0] != (byte)no)) throw Malformed();
        bool result = Rest[0] == (byte)yes;
        Rest = Rest[1..];
        return result;
    }

    /// <summary>Skips blanks and reads a hexadecimal number.</summary>
    public ulong Hex()
    {
        SkipBlanks();
        if (!Utf8Parser.TryParse(Rest, out ulong value, out int used, 'x')) throw Malformed();
        Rest = Rest[used..];
        return value;
    }

    public uint Hex32() => Hex() is var value && value <= uint.MaxValue ? (uint)value : throw Malformed();

    /// <summary>Skips blanks and reads a decimal number.</summary>
    public ulong Decimal()
    {
        SkipBlanks();
        if (!Utf8Parser.TryParse(Rest, out ulong value, out int used)) throw Malformed();
        Rest = Rest[used..];
        return value;
    }

    /// <summary>Skips blanks and reads a decimal number that may be negative.</summary>
    public int Int32()
    {
        SkipBlanks();
        if (!Utf8Parser.TryParse(Rest, out int value, out int used)) throw Malformed();
        Rest = Rest[used..];
        return value;
    }

    public uint UInt32() => Decimal() is var value && value <= uint.MaxValue ? (uint)value : throw Malformed();

    /// <summary>Reads "   12 kB" as bytes.</summary>
    public ulong Kilobytes()
    {
        ulong value = Decimal();
        if (!Rest.SequenceEqual(" kB"u8) || value > ulong.MaxValue / 1024) throw Malformed();
        Rest = default;
        return value * 1024;
    }

    /// <summary>Skips blanks and reads up to the next one; empty at the end of the line.</summary>
    public ReadOnlySpan<byte> Word()
    {
        SkipBlanks();
        int end = Rest.IndexOfAny((byte)' ', (byte)'\t');
        ReadOnlySpan<byte> word = end < 0 ? Rest : Rest[..end];
        Rest = Rest[word.Length..];
        return word;
    }

    public readonly FormatException Malformed() => new($"not a line of this /proc file: \"{Encoding.UTF8.GetString(_line)}\"");
}
