using System.Buffers.Binary;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>A core dump of the target holds the content.</summary>
public sealed class CoreDumpTests(Theatre theatre) : Scene(theatre)
{
    [Fact]
    public void After_the_fill()
    {
        Machine.Require(!File.ReadAllText("/proc/sys/kernel/core_pattern").StartsWith('|'), "needs kernel.core_pattern to be a file name");
        const ulong Length = 4 * MiB;
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1);
        MmapResult result = Call(source, target, at, Length);
        AssertCompletes(result);
        string folder = Theatre.NewFolder("core");
        ulong scratch = target.Scratch;
        target.Write(scratch, System.Text.Encoding.ASCII.GetBytes(folder + "\0"));
        target.Must(target.Syscall(Sys.chdir, (long)scratch), "chdir");
        target.Limit(Rlimit.Core, 1UL << 30);
        Libc.Kill(target.Pid, 6);
        Assert.Equal(-6, Theatre.Nursery.WaitForEnd(target.Pid));
        string core = Assert.Single(Directory.GetFiles(folder));
        ReadOnlySpan<byte> bytes = File.ReadAllBytes(core);
        long offset = SegmentOffset(bytes, result.Address);
        for (ulong page = 0; page < Length / Page; page++)
            Assert.Equal(Pattern.FirstWord(1, page), BinaryPrimitives.ReadUInt64LittleEndian(bytes[(int)(offset + (long)(page * Page))..]));
    }

    /// <summary>Where an ELF core file holds an address: its program headers of type PT_LOAD say.</summary>
    private static long SegmentOffset(ReadOnlySpan<byte> core, ulong address)
    {
        int table = (int)BinaryPrimitives.ReadUInt64LittleEndian(core[32..]), count = BinaryPrimitives.ReadUInt16LittleEndian(core[56..]);
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> header = core[(table + i * 56)..];
            ulong offset = BinaryPrimitives.ReadUInt64LittleEndian(header[8..]), start = BinaryPrimitives.ReadUInt64LittleEndian(header[16..]),
                length = BinaryPrimitives.ReadUInt64LittleEndian(header[32..]);
            bool isLoad = BinaryPrimitives.ReadUInt32LittleEndian(header) == 1;
            if (isLoad && start <= address && address < start + length) return (long)(offset + address - start);
        }
        Assert.Fail($"the core has no segment for 0x{address:x}");
        return 0;
    }
}
