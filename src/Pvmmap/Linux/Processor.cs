using System.Runtime.InteropServices;

namespace Pvmmap.Linux;

/// <summary>What differs between x86-64 and arm64, where this process runs.</summary>
internal static class Processor
{
    public const ushort EM_X86_64 = 62;
    public const ushort EM_AARCH64 = 183;

    // With four-level page tables (TASK_SIZE_MAX); with five, nothing is mapped above it that was not asked to be.
    private const ulong X64AddressSpaceEnd = 0x7fff_ffff_f000;

    private static readonly Lazy<ulong> s_addressSpaceEnd = new(() => IsArm64 ? FindAddressSpaceEnd() : X64AddressSpaceEnd);

    public static bool IsArm64 => RuntimeInformation.ProcessArchitecture == Architecture.Arm64;

    /// <summary>e_machine of programs (elf(5)).</summary>
    public static ushort ElfMachine => IsArm64 ? EM_AARCH64 : EM_X86_64;

    /// <summary>One past the highest address of user memory: the call never goes above it.</summary>
    public static ulong AddressSpaceEnd => s_addressSpaceEnd.Value;

    /// <summary>True if other processes can be stopped and made to run system calls here: registers, signal frame and trampoline are those of x86-64.</summary>
    public static bool CanStopProcesses => RuntimeInformation.ProcessArchitecture == Architecture.X64;

    /// <exception cref="PvmmapException">ENOSYS.</exception>
    public static void RequireStopping(int pid)
    {
        if (!CanStopProcesses)
            throw new PvmmapException(Errno.ENOSYS, "stop the process", pid, hint: "on arm64 only the caller can be source and target so far; use an x86-64 machine");
    }

    /// <exception cref="PvmmapException">ENOSYS.</exception>
    public static void RequireKnown()
    {
        if (RuntimeInformation.ProcessArchitecture is not (Architecture.X64 or Architecture.Arm64))
            throw new PvmmapException(Errno.ENOSYS, "check the processor", hint: "use an x86-64 machine");
        if (Environment.SystemPageSize != (int)PageRange.PageSize)
        {
            throw new PvmmapException(Errno.ENOSYS, "check the page size",
                hint: $"this kernel has pages of {Environment.SystemPageSize >> 10} KiB; use one with pages of 4 KiB");
        }
    }

    // CONFIG_ARM64_VA_BITS: 48 mostly, also with 52, which only a hint gives; 39 on small machines. A page is asked for right below each of them.
    private static ulong FindAddressSpaceEnd()
    {
        foreach (int bits in (ReadOnlySpan<int>)[48, 47, 42, 39])
        {
            ulong end = 1UL << bits;
            SyscallResult mapped = Memory.Map(end - PageRange.PageSize, PageRange.PageSize, Memory.PROT_NONE,
                Memory.MAP_PRIVATE | Memory.MAP_ANONYMOUS | Memory.MAP_FIXED_NOREPLACE);
            if (!mapped.Failed) Memory.Unmap((ulong)mapped.Value, PageRange.PageSize);
            if (!mapped.Failed || mapped.Errno == Errno.EEXIST) return end;
        }
        return 1UL << 36;
    }
}
