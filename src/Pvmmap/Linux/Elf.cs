using System.Runtime.InteropServices;

namespace Pvmmap.Linux;

/// <summary>ELF64 headers (elf.h) and the structures in the notes of a core file (sys/procfs.h), as they are in memory on a little-endian machine.</summary>
internal static unsafe class Elf
{
    public const byte ELFCLASS64 = 2;
    public const byte ELFDATA2LSB = 1;
    public const byte EV_CURRENT = 1;
    public const ushort ET_CORE = 4;

    public const uint PT_LOAD = 1;
    public const uint PT_NOTE = 4;
    public const uint PF_X = 1;
    public const uint PF_W = 2;
    public const uint PF_R = 4;

    /// <summary>In e_phnum: the number of program headers is in sh_info of section header 0.</summary>
    public const ushort PN_XNUM = 0xffff;

    public const uint NT_PRSTATUS = 1;
    public const uint NT_PRFPREG = 2;
    public const uint NT_PRPSINFO = 3;
    public const uint NT_AUXV = 6;
    public const uint NT_SIGINFO = 0x53494749;
    public const uint NT_FILE = 0x46494c45;

    public static ReadOnlySpan<byte> Magic => [0x7f, (byte)'E', (byte)'L', (byte)'F'];

    [StructLayout(LayoutKind.Sequential)]
    public struct FileHeader
    {
        public const int IdentityBytes = 16;

        public fixed byte Identity[IdentityBytes];
        public ushort Type, Machine;
        public uint Version;
        public ulong Entry, ProgramHeaders, SectionHeaders;
        public uint Flags;
        public ushort Size, ProgramHeaderSize, ProgramHeaderCount, SectionHeaderSize, SectionHeaderCount, NameSection;

        /// <summary>e_ident of a 64-bit little-endian file.</summary>
        public void Identify()
        {
            fixed (byte* identity = Identity)
            {
                Magic.CopyTo(new Span<byte>(identity, IdentityBytes));
                (identity[4], identity[5], identity[6]) = (ELFCLASS64, ELFDATA2LSB, EV_CURRENT);
            }
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct ProgramHeader
    {
        public uint Type, Flags;
        public ulong Offset, Address, PhysicalAddress, FileBytes, MemoryBytes, Alignment;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct SectionHeader
    {
        public uint Name, Type;
        public ulong Flags, Address, Offset, Bytes;
        public uint Link, Info;
        public ulong Alignment, EntryBytes;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct NoteHeader
    {
        public uint NameBytes, ContentBytes, Type;
    }

    /// <summary>struct elf_prstatus up to the registers, which differ in length between machines. Behind them comes the int pr_fpvalid.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct ThreadStatus
    {
        public int SignalNumber, SignalCode, SignalError;
        public short CurrentSignal;
        public ulong PendingSignals, BlockedSignals;
        public int ThreadId, ParentId, GroupId, SessionId;
        public TimeValue UserTime, SystemTime, ChildrenUserTime, ChildrenSystemTime;
    }

    /// <summary>struct timeval.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct TimeValue
    {
        public long Seconds, Microseconds;
    }

    /// <summary>struct elf_prpsinfo.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct ProcessInformation
    {
        public const int NameBytes = 16;
        public const int ArgumentBytes = 80;

        public byte State, StateLetter, Zombie;
        public sbyte Nice;
        public ulong Flags;
        public uint UserId, UserGroupId;
        public int ProcessId, ParentId, GroupId, SessionId;
        public fixed byte Name[NameBytes];
        public fixed byte Arguments[ArgumentBytes];

        /// <summary>pr_fname: cut to 15 bytes, zeros behind it.</summary>
        public void SetName(ReadOnlySpan<byte> name)
        {
            name = name[..Math.Min(name.Length, NameBytes - 1)];
            fixed (byte* to = Name) name.CopyTo(new Span<byte>(to, NameBytes));
        }

        /// <summary>pr_psargs: cut to 79 bytes, zeros behind it.</summary>
        public void SetArguments(ReadOnlySpan<byte> arguments)
        {
            arguments = arguments[..Math.Min(arguments.Length, ArgumentBytes - 1)];
            fixed (byte* to = Arguments) arguments.CopyTo(new Span<byte>(to, ArgumentBytes));
        }
    }
}
