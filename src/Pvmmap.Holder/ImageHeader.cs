using System.Runtime.InteropServices;

namespace Pvmmap.Holder;

/// <summary>
/// What stands at <see cref="Offset"/> of the image; all fields are offsets from its start. The system call stub is at offset 0.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
internal struct ImageHeader
{
    public const uint Offset = 0x80;
    public const uint MagicValue = 0x484d5650; // "PVMH"

    public uint Magic;
    public uint Length;
    public uint HolderBoot;
    public uint TracerMain;
    public uint CloneCall;
    public uint SentinelBecome;
    /// <summary>Entry of the image as a program: no argument, the stack as the kernel makes it.</summary>
    public uint SentinelStart;
    /// <summary>e_machine of elf(5).</summary>
    public uint Machine;
}
