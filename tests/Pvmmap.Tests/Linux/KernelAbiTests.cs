using System.Globalization;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Pvmmap.Procfs;
using Xunit;

namespace Pvmmap.Tests.Linux;

/// <summary>
/// Every constant and every structure that crosses the border to the kernel, against compiled C. The tests find them by reflection,
/// so that a new one is checked, or named as ours, before it is used: a wrong ioctl number fails silently.
/// </summary>
public class KernelAbiTests
{
    /// <summary>Types and constants that are our own invention; the kernel knows nothing of them.</summary>
    private static readonly string[] s_ours =
    [
        "Memory.AddressSpaceEnd", // TASK_SIZE_MAX, not in a uapi header
        "Ptrace.UserCodeSegment64", // __USER_CS, not in a uapi header
        "Signals.MaskBytes", // sizeof of the kernel's sigset_t, which libc's is not
        "UnixSocket.MaximumDescriptors",
        "SyscallResult",
        "WaitStatus",
        "ControlPage",
        "ControlContext",
        "ControlSegment",
        "ControlState",
        "ControlCommand",
        "HolderFds",
        "HolderBootArguments",
        "TakeSelfArguments",
        "TracerMailbox",
        "HolderImage",
        "HolderProcess",
    ];

    private static readonly string[] s_kernelNamespaces = ["Pvmmap.Linux", "Pvmmap.Holder"];

    /// <summary>The library, and this assembly, into which the holder's sources are compiled too.</summary>
    private static readonly Type[] s_types =
    [
        .. new[] { typeof(PageRange).Assembly, typeof(KernelAbiTests).Assembly }
            .SelectMany(assembly => assembly.GetTypes())
            .Where(type => type.Namespace?.StartsWith("Pvmmap", StringComparison.Ordinal) == true)
            .Where(type => !type.IsDefined(typeof(CompilerGeneratedAttribute), inherit: false)),
    ];

    private static readonly FieldInfo[] s_constants =
    [
        .. s_types.Where(type => !type.IsEnum || type == typeof(Errno))
            .SelectMany(type => type.GetFields(BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly))
            .Where(field => field.IsLiteral && field.GetRawConstantValue() is not (null or string or bool or double))
            .Where(field => field.Name != nameof(Errno.None)),
    ];

    private static readonly Type[] s_structures =
    [
        .. s_types.Where(type => type.IsValueType && !type.IsEnum && !type.IsByRefLike && s_kernelNamespaces.Contains(type.Namespace))
            .Where(type => !s_ours.Contains(Name(type))),
    ];

    [Fact]
    public void Every_constant_with_a_kernel_name_has_the_kernels_value()
    {
        FieldInfo[] fields = Array.FindAll(s_constants, IsKernelName);
        Assert.NotEmpty(fields);
        Dictionary<string, long> headers = CompiledHeaders.Ask(fields.Select(field => field.Name));
        AssertNone(fields.Where(field => Bits(field) != Bits(field, headers[field.Name]))
            .Select(field => $"{Name(field)} is 0x{Bits(field):x}, in C 0x{Bits(field, headers[field.Name]):x}"));
    }

    [Fact]
    public void Every_other_constant_at_the_border_is_named_as_ours() =>
        AssertNone(s_constants.Where(field => s_kernelNamespaces.Contains(field.DeclaringType!.Namespace) && !IsKernelName(field))
            .Select(Name).Where(name => !s_ours.Contains(name) && !s_ours.Any(ours => name.StartsWith(ours + ".", StringComparison.Ordinal))));

    [Fact]
    public void What_is_named_as_ours_exists()
    {
        HashSet<string> names = [.. s_types.Select(Name), .. s_constants.Select(Name)];
        AssertNone(s_ours.Where(name => !names.Contains(name)));
    }

    [Fact]
    public void Every_structure_has_the_size_and_the_offsets_it_has_in_C()
    {
        Assert.NotEmpty(s_structures);
        Dictionary<string, long> headers = CompiledHeaders.Ask([]);
        AssertNone(s_structures.SelectMany(type => Differences(type, headers)));
    }

    [Fact]
    public void What_C_describes_exists()
    {
        HashSet<string> names = [.. s_structures.Select(Name), .. s_structures.SelectMany(Fields).Select(Name)];
        AssertNone(CompiledHeaders.Ask([]).Keys.Select(key => key.Split(' ')[1]).Distinct().Where(name => !names.Contains(name)));
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

    private static void AssertNone(IEnumerable<string> faults)
    {
        string[] lines = [.. faults];
        Assert.True(lines.Length == 0, string.Join('\n', lines));
    }

    private static IEnumerable<string> Differences(Type type, Dictionary<string, long> headers)
    {
        long size = Marshal.SizeOf(type);
        if (headers.TryGetValue($"sizeof {Name(type)}", out long whole))
        {
            if (size != whole) yield return $"{Name(type)} has {size} bytes, in C {whole}";
        }
        else if (!headers.TryGetValue($"prefix {Name(type)}", out long least))
        {
            yield return $"{Name(type)} is not in abi_structs.h";
        }
        else if (size < least)
        {
            yield return $"{Name(type)} has {size} bytes, in C at least {least}";
        }
        foreach (FieldInfo field in Fields(type))
        {
            long offset = Marshal.OffsetOf(type, field.Name);
            if (!headers.TryGetValue($"offsetof {Name(field)}", out long expected)) yield return $"{Name(field)} is not in abi_structs.h";
            else if (offset != expected) yield return $"{Name(field)} lies at {offset}, in C at {expected}";
            if (headers.TryGetValue($"sizeof {Name(field)}", out expected) && Size(field) != expected)
                yield return $"{Name(field)} has {Size(field)} bytes, in C {expected}";
        }
    }

    private static FieldInfo[] Fields(Type type) => type.GetFields(BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic);

    private static long Size(FieldInfo field) => Marshal.SizeOf(field.FieldType.IsEnum ? Enum.GetUnderlyingType(field.FieldType) : field.FieldType);

    /// <summary>Capitals, digits and underscores, or a system call's SYS_name: names we give ourselves are in PascalCase.</summary>
    private static bool IsKernelName(FieldInfo field) =>
        field.Name.StartsWith("SYS_", StringComparison.Ordinal) || (field.Name.Length > 1 && !field.Name.Any(char.IsAsciiLetterLower));

    // A header's 1 << 31 is negative and our uint is not: compare as many bits as the C# constant has.
    private static ulong Bits(FieldInfo field) => Bits(field, field.GetRawConstantValue() switch
    {
        ulong value => unchecked((long)value),
        var value => Convert.ToInt64(value, CultureInfo.InvariantCulture),
    });

    private static ulong Bits(FieldInfo field, long value) => field.GetRawConstantValue() switch
    {
        byte or sbyte => unchecked((byte)value),
        short or ushort => unchecked((ushort)value),
        int or uint => unchecked((uint)value),
        _ => unchecked((ulong)value),
    };

    private static string Name(FieldInfo field) => $"{Name(field.DeclaringType!)}.{field.Name}";

    private static string Name(Type type) => type.DeclaringType is { } outer ? $"{Name(outer)}.{type.Name}" : type.Name;
}
