using System.Buffers.Binary;
using System.Text;
using Pvmmap.Snapshots;
using Xunit;

namespace Pvmmap.Tests.Snapshots;

/// <summary>The notes of a core file: their order, and the fields at the offsets of sys/procfs.h.</summary>
public sealed class ElfNotesTests
{
    private const ulong At = 0x7f0000000000, Page = FakeCoreSource.Page;
    private const uint PrStatus = 1, FpRegs = 2, PrPsInfo = 3, Auxv = 6, XState = 0x202, SigInfo = 0x53494749, File = 0x46494c45;

    [Fact]
    public void Their_order_is_the_kernels()
    {
        CoreFile core = Dump(Process());
        Assert.Equal(
            [
                ("CORE", PrStatus), ("CORE", PrPsInfo), ("CORE", SigInfo), ("CORE", Auxv), ("CORE", File), ("CORE", FpRegs), ("LINUX", XState),
                ("CORE", PrStatus), ("CORE", FpRegs), ("LINUX", XState), ("CORE", SigInfo),
            ],
            core.Notes.Select(note => (note.Name, note.Type)));
    }

    [Fact]
    public void Without_an_extended_state_there_is_no_note_of_it()
    {
        FakeCoreSource source = new() { Threads = [Thread(1) with { ExtendedState = default, FloatingPointRegisters = default }] };
        CoreFile core = Dump(source);
        Assert.Equal([PrStatus, PrPsInfo, SigInfo, Auxv, File], core.Notes.Select(note => note.Type));
        Assert.Equal(0, Int(core.Notes[0].Content, 328)); // pr_fpvalid
    }

    [Fact]
    public void A_snapshot_of_the_own_process_has_no_threads() =>
        Assert.Equal([PrPsInfo, Auxv, File], Dump(new FakeCoreSource()).Notes.Select(note => note.Type));

    [Fact]
    public void Status_of_a_thread()
    {
        CoreFile core = Dump(Process());
        byte[] status = core.Notes.Where(note => note.Type == PrStatus).ElementAt(1).Content;
        Assert.Equal(336, status.Length);
        Assert.Equal((11, 2, 5), (Int(status, 0), Int(status, 4), Int(status, 8))); // signo, code, errno: the order of elf_siginfo
        Assert.Equal(11, BinaryPrimitives.ReadInt16LittleEndian(status.AsSpan(12)));
        Assert.Equal((1UL << 40, 1UL << 9), (Long(status, 16), Long(status, 24)));
        Assert.Equal((102, 50, 60, 70), (Int(status, 32), Int(status, 36), Int(status, 40), Int(status, 44)));
        Assert.Equal((3UL, 250_000UL, 0UL, 1500UL), (Long(status, 48), Long(status, 56), Long(status, 64), Long(status, 72)));
        Assert.Equal(Registers(102), status[112..328]);
        Assert.Equal(1, Int(status, 328));
    }

    [Fact]
    public void What_ps_shows()
    {
        byte[] info = Dump(Process()).Notes.Single(note => note.Type == PrPsInfo).Content;
        Assert.Equal(136, info.Length);
        Assert.Equal([1, (byte)'S', 0, unchecked((byte)-5)], info[..4]);
        Assert.Equal(0x400000UL, Long(info, 8));
        Assert.Equal((1000, 1001, 101, 50, 60, 70), (Int(info, 16), Int(info, 20), Int(info, 24), Int(info, 28), Int(info, 32), Int(info, 36)));
        Assert.Equal("a-name-of-16-by\0", Encoding.ASCII.GetString(info, 40, 16)); // cut, and ended
        Assert.Equal("prog --flag äö " + new string('x', 62) + "\0", Encoding.UTF8.GetString(info, 56, 80));
    }

    [Fact]
    public void Files_that_are_mapped()
    {
        byte[] files = Dump(Process()).Notes.Single(note => note.Type == File).Content;
        Assert.Equal((3UL, Page), (Long(files, 0), Long(files, 8)));
        Assert.Equal((0x400000UL, 0x402000UL, 7UL), (Long(files, 16), Long(files, 24), Long(files, 32)));
        Assert.Equal((At, At + Page, 0UL), (Long(files, 40), Long(files, 48), Long(files, 56)));
        Assert.Equal("/bin/a prog\0/memfd:x (deleted)\0/dev/zero (deleted)\0", Encoding.UTF8.GetString(files, 16 + 3 * 24, files.Length - 16 - 3 * 24));
    }

    [Fact]
    public void Signal_floating_point_registers_extended_state_and_auxiliary_vector_are_as_the_kernel_gave_them()
    {
        FakeCoreSource source = Process();
        CoreFile core = Dump(source);
        Assert.Equal(source.AuxiliaryVector.ToArray(), core.Notes.Single(note => note.Type == Auxv).Content);
        Assert.Equal(source.Threads.Select(thread => thread.FloatingPointRegisters.ToArray()), Contents(core, FpRegs));
        Assert.Equal(source.Threads.Select(thread => thread.ExtendedState.ToArray()), Contents(core, XState));
        Assert.Equal([new byte[128], source.Threads[1].SignalInformation.ToArray()], Contents(core, SigInfo));
    }

    private static IEnumerable<byte[]> Contents(CoreFile core, uint type) => core.Notes.Where(note => note.Type == type).Select(note => note.Content);

    private static FakeCoreSource Process()
    {
        byte[] signal = new byte[128];
        (signal[0], signal[4], signal[8]) = (11, 5, 2); // siginfo_t: signo, errno, code
        var source = new FakeCoreSource
        {
            Identity = new()
            {
                ProcessId = 101, ParentId = 50, GroupId = 60, SessionId = 70, UserId = 1000, UserGroupId = 1001, State = 'S', Nice = -5, Flags = 0x400000,
                Name = "a-name-of-16-byt", CommandLine = ["prog", "--flag", "äö", new string('x', 200)], CoreDumpFilter = 0x33,
            },
            AuxiliaryVector = Enumerable.Range(0, 320).Select(i => (byte)i).ToArray(),
            Threads =
            [
                Thread(101),
                Thread(102) with
                {
                    SignalInformation = signal, PendingSignals = 1UL << 40, BlockedSignals = 1UL << 9,
                    UserTime = TimeSpan.FromMilliseconds(3250), SystemTime = TimeSpan.FromMicroseconds(1500),
                },
            ],
        };
        source.Map(0x400000, 2, "r-xp", "/bin/a prog", 7, "rd ex", SnapshotContent.File);
        source.Map(At, 1, "rw-s", "/memfd:x (deleted)", 8);
        source.Map(At + Page, 1, "rw-s", "[anon_shmem:ring]", 9);
        source.Map(At + 2 * Page, 1, "rw-p", "[anon:heap of mine]");
        return source.WithOffset(0x400000, 7 * Page);
    }

    private static SnapshotThread Thread(int id) => new()
    {
        ThreadId = id,
        NamespaceThreadId = id,
        GeneralRegisters = Registers(id),
        FloatingPointRegisters = Enumerable.Range(0, 512).Select(i => (byte)(i * id)).ToArray(),
        ExtendedState = Enumerable.Range(0, 2696).Select(i => (byte)(i * id + 1)).ToArray(),
    };

    private static byte[] Registers(int id) => [.. Enumerable.Range(0, 216).Select(i => (byte)(i + id))];

    private static CoreFile Dump(FakeCoreSource source)
    {
        using var stream = new MemoryStream();
        CoreDump.Write(source, stream, new(), null, TestContext.Current.CancellationToken);
        return new CoreFile(stream.ToArray());
    }

    private static int Int(byte[] bytes, int at) => BinaryPrimitives.ReadInt32LittleEndian(bytes.AsSpan(at));

    private static ulong Long(byte[] bytes, int at) => BinaryPrimitives.ReadUInt64LittleEndian(bytes.AsSpan(at));
}
