using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace Pvmmap.Cli.Demo;

/// <summary>Private anonymous memory outside the managed heap, as mmap() gives it.</summary>
internal sealed unsafe partial class AnonymousMemory : IDisposable
{
    private const int Chunk = 1 << 20;
    private const int PROT_NONE = 0, PROT_READ = 1, PROT_WRITE = 2, MAP_PRIVATE = 2, MAP_ANONYMOUS = 0x20, MAP_NORESERVE = 0x4000;

    private readonly byte* _start;
    private bool _released;

    private AnonymousMemory(ulong length, int protection, int flags)
    {
        Length = length;
        nint start = mmap(0, (nuint)length, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
        if (start == -1) throw new PvmmapException((Errno)Marshal.GetLastPInvokeError(), $"map {Figures.Bytes(length)}", hint: "not enough memory; use --size");
        _start = (byte*)start;
    }

    public ulong Address => (ulong)_start;

    public ulong Length { get; }

    public ulong Pages => (Length + PageRange.PageSize - 1) / PageRange.PageSize;

    /// <summary>Memory to use.</summary>
    public static AnonymousMemory Map(ulong length) => new(length, PROT_READ | PROT_WRITE, 0);

    /// <summary>Addresses only, for something to be mapped over.</summary>
    public static AnonymousMemory Reserve(ulong length) => new(length, PROT_NONE, MAP_NORESERVE);

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
        _ = munmap((nint)_start, (nuint)Length);
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint mmap(nint address, nuint length, int protection, int flags, int fd, long offset);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int munmap(nint address, nuint length);
}
