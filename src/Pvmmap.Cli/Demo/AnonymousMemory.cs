using System.Security.Cryptography;
using Pvmmap.Linux;
using Pvmmap.Procfs;

namespace Pvmmap.Cli.Demo;

/// <summary>Private anonymous memory outside the managed heap, as mmap() gives it.</summary>
internal sealed unsafe class AnonymousMemory : IDisposable
{
    private const int Chunk = 1 << 20;

    // One call of process_vm_writev() or process_vm_readv() takes at most MAX_RW_COUNT bytes (include/linux/fs.h).
    private const ulong MaximumTransfer = 0x7ffff000;

    private readonly byte* _start;
    private bool _released;

    private AnonymousMemory(ulong length, int protection, int flags, int file = -1)
    {
        Length = length;
        _start = (byte*)Memory.Map(0, length, protection, Memory.MAP_PRIVATE | flags, file)
            .OrThrow($"map {Figures.Bytes(length)}", hint: "not enough memory; take a part with --size");
    }

    public ulong Address => (ulong)_start;

    public ulong Length { get; }

    public ulong Pages => (Length + PageRange.PageSize - 1) / PageRange.PageSize;

    /// <summary>Memory to use.</summary>
    public static AnonymousMemory Map(ulong length) => new(length, Memory.PROT_READ | Memory.PROT_WRITE, Memory.MAP_ANONYMOUS);

    /// <summary>Memory to use, in transparent huge pages where the kernel has them to give.</summary>
    public static AnonymousMemory MapHuge(ulong length) => MapAdvised(length, Memory.MADV_HUGEPAGE);

    /// <summary>Memory to use, in 4 KiB pages whatever the machine's setting for huge ones is.</summary>
    public static AnonymousMemory MapSmall(ulong length) => MapAdvised(length, Memory.MADV_NOHUGEPAGE);

    /// <summary>Addresses only, for something to be mapped over.</summary>
    public static AnonymousMemory Reserve(ulong length) => new(length, Memory.PROT_NONE, Memory.MAP_ANONYMOUS | Memory.MAP_NORESERVE);

    /// <summary>The start of a file with MAP_PRIVATE: the file's pages until they are written to.</summary>
    public static AnonymousMemory MapFile(ulong length, int file) => new(length, Memory.PROT_READ | Memory.PROT_WRITE, 0, file);

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

    /// <summary>process_vm_writev() of all of it to an address of another process.</summary>
    public void WriteTo(int pid, ulong address) => Transfer(SystemCall.SYS_process_vm_writev, "process_vm_writev", pid, address);

    /// <summary>process_vm_readv() of all of it from an address of another process.</summary>
    public void ReadFrom(int pid, ulong address) => Transfer(SystemCall.SYS_process_vm_readv, "process_vm_readv", pid, address);

    /// <summary>To be said after a call that has unmapped it: what may lie at its address since then is somebody else's.</summary>
    /// <returns>True if it is not there any more.</returns>
    public bool HandOver()
    {
        _released = true;
        var range = new PageRange(Address, Address + Pages * PageRange.PageSize);
        ulong mapped = 0;
        foreach (Vma vma in Maps.Read(Environment.ProcessId)) mapped += vma.Range.Intersect(range).Length;
        return mapped < range.Length;
    }

    /// <summary>munmap().</summary>
    public void Dispose()
    {
        if (_released) return;
        _released = true;
        Memory.Unmap(Address, Length);
    }

    private void Transfer(int call, string name, int pid, ulong address)
    {
        for (ulong done = 0; done < Length;)
        {
            ulong length = Math.Min(MaximumTransfer, Length - done);
            Memory.IoVector local = new() { Base = Address + done, Length = length }, remote = new() { Base = address + done, Length = length };
            done += (ulong)SystemCall.InvokeUninterrupted(call, pid, (long)&local, 1, (long)&remote, 1).OrThrow(name, pid);
        }
    }

    private static AnonymousMemory MapAdvised(ulong length, int advice)
    {
        AnonymousMemory memory = Map(length);
        // EINVAL: a kernel without huge pages.
        SystemCall.Invoke(SystemCall.SYS_madvise, (long)memory.Address, (long)length, advice);
        return memory;
    }
}
