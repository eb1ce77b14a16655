using System.Runtime.InteropServices;
using Pvmmap.Linux;

namespace Pvmmap.Holder;

/// <summary>
/// The freestanding code, as the build made it: position-independent, no writable data. Layout: the system call stub at 0, then an
/// <see cref="ImageHeader"/> with the offsets of the entry points.
/// </summary>
internal sealed unsafe class HolderImage
{
    private static readonly Lazy<HolderImage> Mapped = new(MapHere, LazyThreadSafetyMode.PublicationOnly);

    private readonly ImageHeader header;

    private HolderImage(byte[] code, ulong at)
    {
        Code = code;
        Base = at;
        header = MemoryMarshal.Read<ImageHeader>(code.AsSpan((int)ImageHeader.Offset));
        if (header.Machine != Processor.ElfMachine && header.Magic == ImageHeader.MagicValue)
            throw new PvmmapException(Errno.ENOSYS, "load the holder's code", hint: "this library was built for another processor; build it for this one");
        if (header.Magic != ImageHeader.MagicValue || header.Length != code.Length)
            throw new PvmmapException(Errno.ENOSYS, "load the holder's code", hint: "the embedded image is damaged; build again");
    }

    /// <summary>The image mapped executable in this process, once for its lifetime.</summary>
    public static HolderImage InThisProcess => Mapped.Value;

    public byte[] Code { get; }

    private ulong Base { get; }

    public ulong SyscallStub => Base;

    public ulong Boot => Base + header.HolderBoot;

    public ulong TracerMain => Base + header.TracerMain;

    public ulong CloneCall => Base + header.CloneCall;

    public ulong SentinelBecome => Base + header.SentinelBecome;

    /// <summary>The same image at another address, perhaps of another process.</summary>
    public HolderImage At(ulong address) => new(Code, address);

    private static HolderImage MapHere()
    {
        using Stream stream = typeof(HolderImage).Assembly.GetManifestResourceStream("holder.bin")
            ?? throw new PvmmapException(Errno.ENOSYS, "load the holder's code", hint: "the library was built without its image");
        byte[] code = new byte[stream.Length];
        stream.ReadExactly(code);
        ulong length = ((ulong)code.Length + PageRange.PageSize - 1) & ~(PageRange.PageSize - 1);
        ulong at = (ulong)Memory.Map(0, length, Memory.PROT_READ | Memory.PROT_WRITE, Memory.MAP_PRIVATE | Memory.MAP_ANONYMOUS)
            .OrThrow("map the holder's code");
        code.CopyTo(new Span<byte>((void*)at, code.Length));
        Memory.Protect(at, length, Memory.PROT_READ | Memory.PROT_EXEC).OrThrow("make the holder's code executable");
        return new HolderImage(code, at);
    }
}
