using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Pvmmap.Linux;

namespace Pvmmap.Snapshots;

/// <summary>A program header of type PT_LOAD: addresses, and where in the file their first bytes are.</summary>
internal readonly record struct CoreLoad(PageRange Range, string Permissions, ulong Offset, ulong FileBytes)
{
    /// <summary>The headers of what is left without some pages: gdb reads zeros wherever a header tells of memory, be it without content.</summary>
    /// <param name="unreadable">Ascending, without touching each other; what lies outside is not looked at.</param>
    public IEnumerable<CoreLoad> Without(IEnumerable<PageRange> unreadable)
    {
        CoreLoad rest = this;
        foreach (PageRange hole in unreadable)
        {
            PageRange gap = new PageRange(rest.Range.Start, rest.Range.Start + rest.FileBytes).Intersect(hole);
            if (gap.Length == 0) continue;
            if (gap.Start != rest.Range.Start) yield return rest.Part(rest.Range.Start, gap.Start);
            if (gap.End == rest.Range.End) yield break;
            rest = rest.Part(gap.End, rest.Range.End);
        }
        yield return rest;
    }

    private CoreLoad Part(ulong start, ulong end)
    {
        ulong skipped = start - Range.Start;
        return this with { Range = new(start, end), Offset = Offset + skipped, FileBytes = Math.Min(end - start, FileBytes - skipped) };
    }
}

/// <summary>Memory that is in the file in one piece.</summary>
/// <param name="Range">Its addresses.</param>
/// <param name="Offset">Where in the file it begins.</param>
/// <param name="Extents">What of it is to be read; the rest is zeros.</param>
internal readonly record struct CoreContent(PageRange Range, ulong Offset, IReadOnlyList<PageRange> Extents);

/// <summary>
/// Where everything is in a core file, in the kernel's order: file header, program headers, notes, and from the next page on the memory. More program headers than
/// e_phnum can tell are counted in a section header behind them (PN_XNUM).
/// </summary>
internal sealed class ElfCoreLayout
{
    private readonly int _noteBytes;
    private readonly ulong _notesAt;

    public ElfCoreLayout(IReadOnlyList<CoreSegment> segments, int noteBytes)
    {
        var loads = new List<CoreLoad>();
        var contents = new List<CoreContent>();
        ulong at = 0;
        foreach (CoreSegment segment in segments)
        {
            foreach (PageRange told in segment.Told)
            {
                PageRange[] parts = [.. segment.Parts.Where(told.Overlaps)];
                ulong first = parts.Length == 0 ? told.End : parts[0].Start;
                if (first != told.Start) loads.Add(new CoreLoad(new(told.Start, first), segment.Mapping.Permissions, at, 0));
                for (int i = 0; i < parts.Length; i++)
                {
                    PageRange part = parts[i];
                    ulong end = i + 1 < parts.Length ? parts[i + 1].Start : told.End;
                    loads.Add(new CoreLoad(new(part.Start, end), segment.Mapping.Permissions, at, part.Length));
                    contents.Add(new CoreContent(part, at, [.. segment.Extents.Where(part.Overlaps)]));
                    at = checked(at + part.Length);
                }
            }
        }
        _noteBytes = noteBytes;
        _notesAt = FileHeaderBytes + TableBytes(loads.Count + 1);
        ulong start = RoundUp(_notesAt + (ulong)noteBytes, PageRange.PageSize);
        Loads = [.. loads.Select(load => load with { Offset = checked(load.Offset + start) })];
        Contents = [.. contents.Select(content => content with { Offset = content.Offset + start })];
        End = start + at;
    }

    private static ulong FileHeaderBytes => (ulong)Unsafe.SizeOf<Elf.FileHeader>();

    /// <summary>The program headers of the segments, in their order.</summary>
    public IReadOnlyList<CoreLoad> Loads { get; }

    /// <summary>The memory that is in the file, in the same order.</summary>
    public IReadOnlyList<CoreContent> Contents { get; }

    /// <summary>One past the last byte of memory.</summary>
    public ulong End { get; }

    /// <summary>What stands before the memory, filled up to a whole page.</summary>
    public byte[] Start(ReadOnlySpan<byte> notes)
    {
        byte[] start = new byte[RoundUp(_notesAt + (ulong)_noteBytes, PageRange.PageSize)];
        FileHeader(FileHeaderBytes, Loads.Count + 1).CopyTo(start, 0);
        Table(Loads).CopyTo(start, (int)FileHeaderBytes);
        notes.CopyTo(start.AsSpan((int)_notesAt));
        return start;
    }

    /// <summary>The file header for program headers that are elsewhere.</summary>
    public static byte[] FileHeader(ulong tableAt, int count)
    {
        var header = new Elf.FileHeader
        {
            Type = Elf.ET_CORE,
            Machine = Processor.ElfMachine,
            Version = Elf.EV_CURRENT,
            ProgramHeaders = tableAt,
            Size = (ushort)FileHeaderBytes,
            ProgramHeaderSize = (ushort)Unsafe.SizeOf<Elf.ProgramHeader>(),
            ProgramHeaderCount = (ushort)Math.Min(count, Elf.PN_XNUM),
        };
        header.Identify();
        if (NeedsSection(count))
        {
            header.SectionHeaders = tableAt + (ulong)count * header.ProgramHeaderSize;
            header.SectionHeaderSize = (ushort)Unsafe.SizeOf<Elf.SectionHeader>();
            header.SectionHeaderCount = 1;
        }
        return Bytes(header);
    }

    /// <summary>The program headers, that of the notes first, and the section header if there must be one.</summary>
    public byte[] Table(IReadOnlyList<CoreLoad> loads)
    {
        int count = loads.Count + 1, entry = Unsafe.SizeOf<Elf.ProgramHeader>();
        byte[] table = new byte[TableBytes(count)];
        MemoryMarshal.Write(table, new Elf.ProgramHeader { Type = Elf.PT_NOTE, Offset = _notesAt, FileBytes = (ulong)_noteBytes, Alignment = 4 });
        for (int i = 0; i < loads.Count; i++)
        {
            MemoryMarshal.Write(table.AsSpan((i + 1) * entry), new Elf.ProgramHeader
            {
                Type = Elf.PT_LOAD,
                Flags = Flags(loads[i].Permissions),
                Offset = loads[i].Offset,
                Address = loads[i].Range.Start,
                FileBytes = loads[i].FileBytes,
                MemoryBytes = loads[i].Range.Length,
                Alignment = PageRange.PageSize,
            });
        }
        // As fill_extnum_info() of the kernel has it: the number of sections is in it too.
        if (NeedsSection(count)) MemoryMarshal.Write(table.AsSpan(count * entry), new Elf.SectionHeader { Bytes = 1, Info = (uint)count });
        return table;
    }

    private static ulong TableBytes(int count) =>
        (ulong)count * (ulong)Unsafe.SizeOf<Elf.ProgramHeader>() + (NeedsSection(count) ? (ulong)Unsafe.SizeOf<Elf.SectionHeader>() : 0);

    private static bool NeedsSection(int count) => count >= Elf.PN_XNUM;

    private static uint Flags(string permissions) =>
        (permissions[0] == 'r' ? Elf.PF_R : 0) | (permissions[1] == 'w' ? Elf.PF_W : 0) | (permissions[2] == 'x' ? Elf.PF_X : 0);

    private static byte[] Bytes<T>(T structure)
        where T : unmanaged => MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in structure)).ToArray();

    private static ulong RoundUp(ulong bytes, ulong unit) => (bytes + unit - 1) / unit * unit;
}
