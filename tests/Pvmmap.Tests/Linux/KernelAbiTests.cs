using Pvmmap.Procfs;
using Xunit;

namespace Pvmmap.Tests.Linux;

/// <summary>
/// Every constant and every structure that crosses the border to the kernel, against compiled C. The tests find them in the assemblies,
/// so that a new one is checked, or named as ours, before it is used: a wrong ioctl number fails silently.
/// </summary>
public class KernelAbiTests
{
    /// <summary>Types and constants in the namespaces of the border that are our own invention; the kernel knows nothing of them.</summary>
    private static readonly string[] s_ours =
    [
        // Pvmmap.Linux
        "Processor.X64AddressSpaceEnd", // TASK_SIZE_MAX, not in a uapi header
        "Ptrace.UserCodeSegment64", // __USER_CS, not in a uapi header
        "MemoryPolicy.KernelBuffer",
        "MemoryPolicy.WeightedInterleave", // MPOL_WEIGHTED_INTERLEAVE, newer than the headers of Debian 12
        "Signals.MaskBytes", // sizeof of the kernel's sigset_t, which libc's is not
        "AttributeProbe.Mappings",
        "DeliveredPages",
        "DeliveredPiece",
        "DeliveredPositions",
        "Descriptors",
        "DirectoryBuffer",
        "FillWorker.BytesBetweenLooks",
        "FillWorker.BatchesPerHugePage",
        "FillWorker.CrowdedBatches",
        "FillWorker.Delay",
        "FillWorker.ProcessorMask",
        "FillWorker.QuietBatches",
        "FillWorker.SpinRounds",
        "FillWorker.StuckBatches",
        "WorkerState",
        "FileOutput.Arm64TemporaryFile", // O_TMPFILE of arm64
        "Guardian.AnnouncementMilliseconds",
        "Relocation.Mappings",
        "Departure.SignalAction", // the kernel's struct sigaction is not the C library's
        "Departure.VanishMicroseconds",
        "Letterbox.ControlBytes",
        "Letterbox.HeaderBytes",
        "UnixSocket.LongestAddress",
        "UnixSocket.MaximumDescriptors",
        "KernelFeature",
        "ProcessVmMmap", // what the probes of our own system call ask
        "SyscallResult",
        "WaitStatus",

        // Pvmmap.Holder, in the library and in the holder: what they tell each other
        "ControlPage",
        "ControlContext",
        "ControlSegment",
        "LateUnmap",
        "ControlState",
        "ControlCommand",
        "HolderBootArguments",
        "HolderFds",
        "HolderLoader",
        "HolderProcess",
        "HolderTask",
        "ImageHeader",
        "KeeperHeader",
        "KeeperMessage",
        "NameBytes",
        "SentinelArguments",
        "SentinelProcess",
        "TracerMailbox",
        "TracerRequest",

        // Pvmmap.Holder.Freestanding
        "BackgroundFill",
        "Boot.FillHugePages",
        "Boot.HugePagesFilled",
        "Boot.ProbeMilliseconds",
        "Boot.NoRoom",
        "Boot.Probed",
        "Boot.Probing",
        "Boot.Ready",
        "Boot.Serving",
        "AttributeProbe.Mappings",
        "DeliveredPositions",
        "Events",
        "OpenFiles.Highest",
        "Faults",
        "FaultStream",
        "FaultStreams",
        "FaultStreamTable",
        "Guardian",
        "Kernel.PageSize",
        "Loop",
        "MapsReader",
        "Messages.HeaderLength",
        "Pagemap.Entries",
        "Pagemap.EntriesPerRead",
        "Pagemap.Regions",
        "Pagemap.RegionsPerScan",
        "PendingFault",
        "PendingFaults",
        "PollDescriptors",
        "PopulatedRun",
        "Published",
        "Receipts.PagesAtOnce",
        "Receipts.PagesInWord",
        "ReceiptTable",
        "Departure.StackRoom",
        "Relocation",
        "SourceEnd.Holders",
        "SourceEnd.TurnsBetweenLooks",
        "SegmentTable",
        "Sentinel.Children",
        "Sentinel.Program",
        "Sentinel.Ready",
        "Service",
        "Spin",
        "Steps",
        "Words2",
    ];

    /// <summary>Constants that mean the kernel's value and go by another name, and what they are in C.</summary>
    private static readonly Dictionary<string, string> s_inC = new()
    {
        ["Elf.FileHeader.IdentityBytes"] = "EI_NIDENT",
        ["Elf.ProcessInformation.ArgumentBytes"] = "ELF_PRARGSZ",
        ["Elf.ProcessInformation.NameBytes"] = "sizeof(((struct elf_prpsinfo *)0)->pr_fname)",
        ["Kernel.PollIn"] = "POLLIN",
        ["SignalFrame.ContextOffset"] = "sizeof(char *)", // the return address lies before it
        ["SignalFrame.FpStateOffset"] = "sizeof(char *) + offsetof(ucontext_t, uc_mcontext.fpregs)",
        ["SignalFrame.RegistersOffset"] = "sizeof(char *) + offsetof(ucontext_t, uc_mcontext)",
        ["SignalFrame.SignalMaskOffset"] = "sizeof(char *) + offsetof(ucontext_t, uc_sigmask)",
        ["SignalFrame.SoftwareReservedOffset"] = "sizeof(struct _libc_fpstate) - 48", // sw_reserved ends the legacy area
        ["SignalFrame.StackFlagsOffset"] = "sizeof(char *) + offsetof(ucontext_t, uc_stack.ss_flags)",
        ["StoppedProcess.CloneVm"] = "CLONE_VM",
        ["Userfaultfd.EventFork"] = "UFFD_EVENT_FORK",
        ["Userfaultfd.EventPagefault"] = "UFFD_EVENT_PAGEFAULT",
        ["Userfaultfd.EventRemap"] = "UFFD_EVENT_REMAP",
        ["Userfaultfd.EventRemove"] = "UFFD_EVENT_REMOVE",
        ["Userfaultfd.EventUnmap"] = "UFFD_EVENT_UNMAP",
    };

    private static readonly string[] s_spaces = ["Pvmmap.Linux", "Pvmmap.Holder", "Pvmmap.Holder.Freestanding"];

    private static readonly Border[] s_borders =
    [
        LoadedBorder.Of(typeof(PageRange).Assembly),
        LoadedBorder.Of(typeof(KernelAbiTests).Assembly),
        LoadedBorder.Of(typeof(Pvmmap.Cli.ExitCode).Assembly),
        FreestandingBorder.Of(Path.Combine(AppContext.BaseDirectory, "Pvmmap.Holder.dll")),
    ];

    // Numbers of arm64 are compared with its headers by the conformance tests.
    private static readonly BorderConstant[] s_constants = [.. s_borders.SelectMany(border => border.Constants).Where(constant => constant.Type != "Arm64SystemCalls").Distinct()];

    private static readonly BorderStructure[] s_structures =
        [.. s_borders.SelectMany(border => border.Structures).Where(type => s_spaces.Contains(type.Space) && !IsOurs(type.Name))];

    private static readonly Lazy<Dictionary<string, long>> s_structuresInC = new(() => CompiledHeaders.Ask([]));

    [Fact]
    public void Every_constant_of_the_kernel_has_the_kernels_value()
    {
        (BorderConstant Constant, string C)[] pairs =
            [.. s_constants.Select(constant => (constant, InC(constant)!)).Where(pair => pair.Item2 is not null)];
        Dictionary<string, long> headers = CompiledHeaders.Ask(pairs.Select(pair => pair.C));
        AssertNone(pairs.Where(pair => Low(pair.Constant.Value, pair.Constant.Bytes) != Low((ulong)headers[pair.C], pair.Constant.Bytes))
            .Select(pair => $"{pair.Constant.Name} is 0x{pair.Constant.Value:x}, {pair.C} is 0x{headers[pair.C]:x}"));
    }

    [Fact]
    public void Every_other_constant_at_the_border_is_named_as_ours() =>
        AssertNone(s_constants.Where(constant => s_spaces.Contains(constant.Space) && InC(constant) is null && !IsOurs(constant.Name))
            .Select(constant => constant.Name));

    [Fact]
    public void Every_structure_has_the_size_and_the_offsets_it_has_in_C() =>
        AssertNone(s_structures.SelectMany(type => Differences(type, s_structuresInC.Value)));

    [Fact]
    public void The_holder_and_the_library_lay_their_messages_out_alike()
    {
        var shared = s_borders[0].Structures.Where(type => type.Space == "Pvmmap.Holder").ToDictionary(type => type.Name);
        BorderStructure[] freestanding = [.. s_borders[^1].Structures.Where(type => shared.ContainsKey(type.Name))];
        Assert.Contains(freestanding, type => type.Name == "ControlPage");
        Assert.All(freestanding, type =>
        {
            Assert.Equal((type.Name, shared[type.Name].Bytes), (type.Name, type.Bytes));
            Assert.Equal(shared[type.Name].Fields, type.Fields);
        });
    }

    [Fact]
    public void What_the_lists_name_exists()
    {
        HashSet<string> names = [.. s_borders.SelectMany(border => border.Types), .. s_constants.Select(constant => constant.Name)];
        AssertNone(s_ours.Concat(s_inC.Keys).Where(name => !names.Contains(name)));
        HashSet<string> structures =
            [.. s_structures.Select(type => type.Name), .. s_structures.SelectMany(type => type.Fields).Select(field => field.Name)];
        AssertNone(s_structuresInC.Value.Keys.Select(key => key.Split(' ')[1]).Distinct().Where(name => !structures.Contains(name)));
    }

    [Fact]
    public void Protection_is_what_mmap_takes()
    {
        Dictionary<string, long> headers = CompiledHeaders.Ask(["PROT_NONE", "PROT_READ", "PROT_WRITE", "PROT_EXEC"]);
        Assert.Equal((long)Protection.None, headers["PROT_NONE"]);
        Assert.Equal((long)Protection.Read, headers["PROT_READ"]);
        Assert.Equal((long)Protection.Write, headers["PROT_WRITE"]);
        Assert.Equal((long)Protection.Execute, headers["PROT_EXEC"]);
    }

    [Fact]
    public void The_flags_of_the_call_are_those_of_its_C_header()
    {
        Dictionary<string, MmapFlags> flags = new()
        {
            ["PVMMAP_FIXED"] = MmapFlags.Fixed,
            ["PVMMAP_FIXED_NOREPLACE"] = MmapFlags.FixedNoReplace,
            ["PVMMAP_MOVE"] = MmapFlags.Move,
            ["PVMMAP_LAZY"] = MmapFlags.Lazy,
            ["PVMMAP_POPULATE"] = MmapFlags.Populate,
        };
        Assert.Equal(Enum.GetValues<MmapFlags>().Where(flag => flag != MmapFlags.None), flags.Values.Order());
        Dictionary<string, long> headers = CompiledHeaders.Ask(flags.Keys);
        Assert.All(flags, pair => Assert.Equal((pair.Key, (long)pair.Value), (pair.Key, headers[pair.Key])));
    }

    private static IEnumerable<string> Differences(BorderStructure type, Dictionary<string, long> headers)
    {
        if (headers.TryGetValue($"sizeof {type.Name}", out long whole))
        {
            if (type.Bytes != whole) yield return $"{type.Name} has {type.Bytes} bytes, in C {whole}";
        }
        else if (!headers.TryGetValue($"prefix {type.Name}", out long least))
        {
            yield return $"{type.Name} is neither in abi_structs.h nor named as ours";
        }
        else if (type.Bytes < least)
        {
            yield return $"{type.Name} has {type.Bytes} bytes, in C at least {least}";
        }
        foreach (BorderField field in type.Fields)
        {
            if (!headers.TryGetValue($"offsetof {field.Name}", out long expected)) yield return $"{field.Name} is not in abi_structs.h";
            else if (field.Offset != expected) yield return $"{field.Name} lies at {field.Offset}, in C at {expected}";
            if (headers.TryGetValue($"sizeof {field.Name}", out expected) && field.Bytes != expected)
                yield return $"{field.Name} has {field.Bytes} bytes, in C {expected}";
        }
    }

    /// <summary>What the constant is called in C; null for one of ours.</summary>
    /// <remarks>Capitals, digits and underscores are the kernel's names wherever they stand: what we name ourselves is in PascalCase.</remarks>
    private static string? InC(BorderConstant constant)
    {
        if (s_inC.TryGetValue(constant.Name, out string? expression)) return expression;
        if (constant.Type == "SystemCalls" && char.IsAsciiLetterLower(constant.Field[0])) return "SYS_" + constant.Field;
        if (constant.Field.StartsWith("SYS_", StringComparison.Ordinal)) return constant.Field;
        if (constant.Field.Length < 2 || constant.Field.Any(char.IsAsciiLetterLower)) return null;
        // The freestanding code has the system call's result before it, where an error is negative.
        return constant.Type == "Kernel" && constant.Field[0] == 'E' ? "-" + constant.Field : constant.Field;
    }

    private static bool IsOurs(string name) => s_ours.Any(ours => name == ours || name.StartsWith(ours + ".", StringComparison.Ordinal));

    // A header's 1 << 31 is negative and our uint is not: compare as many bytes as the C# constant has.
    private static ulong Low(ulong value, int bytes) => bytes == 8 ? value : value & ((1UL << (8 * bytes)) - 1);

    private static void AssertNone(IEnumerable<string> faults)
    {
        string[] lines = [.. faults];
        Assert.True(lines.Length == 0, string.Join('\n', lines));
    }
}
