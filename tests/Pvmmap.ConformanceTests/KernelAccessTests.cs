using System.Buffers.Binary;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>System calls of the target, and of others, that meet a page that is not there yet.</summary>
public sealed class KernelAccessTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 16 * MiB;

    [Fact]
    public void Write_from_missing_pages()
    {
        (Puppet target, ulong region) = Begin();
        (int reading, int writing) = Pipe(target);
        Assert.Equal(5000L, target.Syscall(Sys.write, writing, (long)(region + 2 * MiB + 1000), 5000));
        ulong buffer = target.Map(2 * Page);
        Assert.Equal(5000L, target.Syscall(Sys.read, reading, (long)buffer, 5000));
        Assert.Equal(target.Read(region + 2 * MiB + 1000, 5000), target.Read(buffer, 5000));
        target.AssertContent(region + 2 * MiB, 2 * Page, 1, 2 * MiB / Page);
    }

    [Fact]
    public void A_file_is_written_from_a_mebibyte_of_missing_pages()
    {
        (Puppet target, ulong region) = Begin();
        target.Write(target.Scratch, "pages\0"u8);
        long fd = target.Must(target.Syscall(Sys.memfd_create, (long)target.Scratch, 0), "memfd_create");
        Assert.Equal((long)MiB, target.Syscall(Sys.write, fd, (long)(region + 4 * MiB), (long)MiB));
        ulong copy = target.Map(MiB, flags: MapFlags.Shared, fd: (int)fd);
        target.AssertContent(copy, MiB, 1, 4 * MiB / Page);
    }

    [Fact]
    public void Read_into_missing_pages()
    {
        (Puppet target, ulong region) = Begin();
        (int reading, int writing) = Pipe(target);
        ulong data = target.MapFilled(2 * Page, 9);
        Assert.Equal((long)(2 * Page), target.Syscall(Sys.write, writing, (long)data, (long)(2 * Page)));
        // unaligned: the rest of the first and of the last page must still come from the source
        Assert.Equal((long)(2 * Page), target.Syscall(Sys.read, reading, (long)(region + MiB + 512), (long)(2 * Page)));
        Assert.Equal(target.Read(data, (int)(2 * Page)), target.Read(region + MiB + 512, (int)(2 * Page)));
        Assert.Equal(Pattern.FirstWord(1, MiB / Page), BinaryPrimitives.ReadUInt64LittleEndian(target.Read(region + MiB, 8)));
        ulong last = Pattern.WordAt(Pattern.FirstWord(1, MiB / Page + 2), 511);
        Assert.Equal(last, BinaryPrimitives.ReadUInt64LittleEndian(target.Read(region + MiB + 3 * Page - 8, 8)));
    }

    [Fact]
    public void Futex_on_a_missing_page_compares_with_the_sources_word()
    {
        (Puppet target, ulong region) = Begin();
        ulong first = Pattern.FirstWord(1, 300);
        target.Write(target.Scratch, [.. new byte[8], .. BitConverter.GetBytes(1_000_000L)]); // 1 ms
        const int FUTEX_WAIT_PRIVATE = 128;
        long equal = target.Syscall(Sys.futex, (long)(region + 300 * Page), FUTEX_WAIT_PRIVATE, (long)(first & uint.MaxValue), (long)target.Scratch);
        Assert.Equal(-(long)Errno.ETIMEDOUT, equal);
        long other = target.Syscall(Sys.futex, (long)(region + 301 * Page), FUTEX_WAIT_PRIVATE, 0, (long)target.Scratch);
        Assert.Equal(-(long)Errno.EAGAIN, other);
    }

    [Fact]
    public void Process_vm_readv_and_writev_by_a_third_party()
    {
        (Puppet target, ulong region) = Begin();
        Puppet third = NewPuppet();
        ulong buffer = third.Map(MiB);
        Assert.Equal((long)MiB, Transfer(third, Sys.process_vm_readv, target.Pid, buffer, region + MiB, MiB));
        third.AssertContent(buffer, MiB, 1, MiB / Page);
        third.Fill(buffer, 4 * Page, 5, 2 * MiB / Page);
        Assert.Equal((long)(4 * Page), Transfer(third, Sys.process_vm_writev, target.Pid, buffer, region + 2 * MiB, 4 * Page));
        target.AssertContent(region + 2 * MiB, 4 * Page, 5, 2 * MiB / Page);
        target.AssertContent(region + 2 * MiB + 4 * Page, MiB, 1, 2 * MiB / Page + 4);
    }

    [Fact]
    public void Arguments_of_system_calls_on_missing_pages()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.Map(MiB);
        source.Write(at + 5 * Page - 6, "/proc/self\0"u8); // a path across a page border
        MmapResult result = Call(source, target, at, MiB, flags: MmapFlags.Lazy);
        Assert.Equal(0L, target.Syscall(Sys.chdir, (long)(result.Address + 5 * Page - 6)));
        Assert.Equal($"/proc/{target.Pid}", new FileInfo($"/proc/{target.Pid}/cwd").LinkTarget);
    }

    private (Puppet Target, ulong Region) Begin()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        MmapResult result = Call(source, target, at, Length, flags: MmapFlags.Lazy);
        return (target, result.Address);
    }

    private static (int Reading, int Writing) Pipe(Puppet puppet)
    {
        ulong scratch = puppet.Scratch;
        puppet.Must(puppet.Syscall(Sys.pipe2, (long)scratch, 0), "pipe2");
        byte[] pair = puppet.Read(scratch, 8);
        return (BitConverter.ToInt32(pair, 0), BitConverter.ToInt32(pair, 4));
    }

    private static long Transfer(Puppet third, long call, int pid, ulong local, ulong remote, ulong length)
    {
        ulong scratch = third.Scratch;
        ulong[] vectors = [local, length, remote, length];
        third.Write(scratch, [.. vectors.SelectMany(BitConverter.GetBytes)]);
        return third.Syscall(call, pid, (long)scratch, 1, (long)(scratch + 16), 1, 0);
    }
}
