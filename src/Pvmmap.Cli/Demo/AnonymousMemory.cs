using System.Security.Cryptography;
using Pvmmap.Linux;

namespace Pvmmap.Cli.Demo;

/// <summary>Private anonymous memory outside the managed heap, as mmap() gives it.</summary>
internal sealed unsafe class AnonymousMemory : IDisposable
{
    private const int Chunk = 1 << 20;

    private readonly byte* _start;
    private bool _released;

    private AnonymousMemory(ulong length, int protection, int flags)
    {
        Length = length;
        _start = (byte*)Memory.Map(0, length, protection, Memory.MAP_PRIVATE | Memory.MAP_ANONYMOUS | flags)
            .OrThrow($"map {Figures.Bytes(length)}", hint: "not enough memory; take a part with --size");
    }

    public ulong Address => (ulong)_start;

    public ulong Length { get; }

    public ulong Pages => (Length + PageRange.PageSize - 1) / PageRange.PageSize;

    /// <summary>Memory to use.</summary>
    public static AnonymousMemory Map(ulong length) => new(length, Memory.PROT_READ | Memory.PROT_WRITE, 0);

    /// <summary>Memory to use, in transparent huge pages where the kernel has them to give.</summary>
    public static AnonymousMemory MapHuge(ulong length)
    {
        AnonymousMemory memory = Map(length);
        // EINVAL: a kernel without them.
        SystemCall.Invoke(SystemCall.SYS_madvise, (long)memory.Address, (long)length, Memory.MADV_HUGEPAGE);
        return memory;
    }

    /// <summary>Addresses only, for something to be mapped over.</summary>
    public static AnonymousMemory Reserve(ulong length) => new(length, Memory.PROT_NONE, Memory.MAP_NORESERVE);

    /// <summary>At most 1 MiB from <paramref name="offset"/> on; empty at the end.</summary>
    public Span<byte> Slice(ulong offset)
    {
        ObjectDisposedException.ThrowIf(_released, this);
        return new(_start + offset, (int)Math.Min(Chunk, Length - offset));
    }

    public string Sha256()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        for (ulong offset = 0; offset < Length; offset += Chunk) hash.AppendData(Slice(offset));
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    /// <summary>Changes the first byte of each page.</summary>
    public void WriteToEachPage()
    {
        for (ulong offset = 0; offset < Length; offset += PageRange.PageSize) Slice(offset)[0] ^= 0xff;
    }

    /// <summary>munmap().</summary>
    public void Dispose()
    {
        if (_released) return;
        _released = true;
        Memory.Unmap(Address, Length);
    }
}
