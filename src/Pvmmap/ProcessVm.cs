using Pvmmap.Linux;

namespace Pvmmap;

/// <summary>
/// process_vm_mmap(): duplicates a range of one live process's memory into another, copy-on-write. The contract is docs/process_vm_mmap.2.md.
/// Safe to call from many threads at once; calls that need the same process wait for each other.
/// </summary>
public static class ProcessVm
{
    private const MmapFlags Known = MmapFlags.Fixed | MmapFlags.FixedNoReplace | MmapFlags.Move | MmapFlags.Lazy | MmapFlags.Populate;

    /// <summary>Between the caller and another process: the sign of <paramref name="pid"/> is the direction.</summary>
    /// <param name="pid">Greater than 0: from that process into the caller. Less than 0: from the caller into process -pid. 0: EINVAL.</param>
    /// <param name="sourceAddress">First byte to take. Need not be page-aligned: the range is rounded outward to whole pages.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="destinationAddress">Where to map it, see <paramref name="flags"/>; 0 lets the kernel choose.</param>
    /// <param name="flags">How to place and fill it.</param>
    /// <returns>The address in the target, and a <see cref="Duplication"/> that follows the fill.</returns>
    /// <exception cref="PvmmapException">With the errno of the contract; both processes are as they were.</exception>
    public static MmapResult Mmap(int pid, ulong sourceAddress, ulong length, ulong destinationAddress = 0, MmapFlags flags = MmapFlags.None)
    {
        int self = Environment.ProcessId;
        (int source, int target) = pid > 0 ? (pid, self) : (self, unchecked(-pid));
        CheckSurroundings();
        List<string> notes = [];
        if (Backends.Of(source, target) == Backend.Kernel && ByKernel(pid, sourceAddress, length, destinationAddress, flags, notes) is { } made) return made;
        if (target <= 0) throw new PvmmapException(Errno.EINVAL, "check the arguments", hint: "the pid is 0: give the other process, or minus it");
        return InUserSpace(source, target, sourceAddress, length, destinationAddress, flags, notes);
    }

    /// <summary>Between any two processes, of which the caller may be one or both.</summary>
    /// <param name="sourcePid">The process to take from.</param>
    /// <param name="targetPid">The process to map into.</param>
    /// <param name="sourceAddress">First byte to take, in the source.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="destinationAddress">Where to map it, in the target.</param>
    /// <param name="flags">How to place and fill it.</param>
    /// <returns>The address in the target, and a <see cref="Duplication"/> that follows the fill.</returns>
    /// <exception cref="PvmmapException">With the errno of the contract; both processes are as they were.</exception>
    public static MmapResult MmapBetween(
        int sourcePid, int targetPid, ulong sourceAddress, ulong length, ulong destinationAddress = 0, MmapFlags flags = MmapFlags.None)
    {
        CheckSurroundings();
        if (sourcePid <= 0 || targetPid <= 0) throw new PvmmapException(Errno.EINVAL, "check the arguments", hint: "a pid is not positive");
        int self = Environment.ProcessId;
        List<string> notes = [];
        if (Backends.Of(sourcePid, targetPid) == Backend.Kernel)
        {
            int pid = targetPid == self ? sourcePid : -targetPid;
            if (ByKernel(pid, sourceAddress, length, destinationAddress, flags, notes) is { } made) return made;
        }
        else if (Backends.Choice == BackendChoice.Auto && ProcessVmMmap.IsPresent)
        {
            notes.Add($"{Backends.OnlyOfTheCaller}, so the call was made in user space");
        }
        return InUserSpace(sourcePid, targetPid, sourceAddress, length, destinationAddress, flags, notes);
    }

    private static void CheckSurroundings()
    {
        Processor.RequireKnown();
        _ = KernelFeatures.Without;
    }

    /// <summary>Null, and a note why, if the kernel does not do it and this library may.</summary>
    private static MmapResult? ByKernel(int pid, ulong sourceAddress, ulong length, ulong destination, MmapFlags flags, List<string> notes)
    {
        bool mayRefuse = Backends.Choice == BackendChoice.Auto;
        MmapResult? made = new KernelCall(pid, sourceAddress, length, destination, flags).Run(mayRefuse);
        if (made is null) notes.Add("the kernel's process_vm_mmap() does not take part of this range, so the call was made in user space");
        return made;
    }

    private static MmapResult InUserSpace(int sourcePid, int targetPid, ulong sourceAddress, ulong length, ulong destination, MmapFlags flags, List<string> notes)
    {
        PageRange source = CheckArguments(sourcePid, targetPid, sourceAddress, length, destination, flags);
        MmapResult result = new MmapCall(sourcePid, targetPid, source, destination, flags).Run();
        return result with { DataAddress = result.Address + (sourceAddress - source.Start), Notes = [.. notes, .. result.Notes] };
    }

    /// <summary>The range in whole pages. EINVAL says what is wrong with the arguments.</summary>
    internal static PageRange CheckArguments(int sourcePid, int targetPid, ulong sourceAddress, ulong length, ulong destination, MmapFlags flags)
    {
        if ((flags & ~Known) != 0) throw Invalid($"unknown flags 0x{(ulong)(flags & ~Known):x}");
        if (flags.HasFlag(MmapFlags.Lazy) && flags.HasFlag(MmapFlags.Populate)) throw Invalid("LAZY contradicts POPULATE");
        if (sourcePid <= 0 || targetPid <= 0) throw Invalid("a pid is not positive");
        if (length == 0) throw Invalid("the length is 0");
        if (!PageRange.TryRoundOutward(sourceAddress, length, out PageRange source) || source.End > Processor.AddressSpaceEnd)
            throw Invalid("the source range passes the end of the address space");
        if (source.Start == 0) throw Invalid("the source range starts in page 0");
        bool exact = (flags & (MmapFlags.Fixed | MmapFlags.FixedNoReplace)) != 0;
        if (!exact) return source;
        if (destination % PageRange.PageSize != 0) throw Invalid("the destination is not page-aligned");
        if (destination > Processor.AddressSpaceEnd || source.Length > Processor.AddressSpaceEnd - destination)
            throw Invalid("the destination range passes the end of the address space");
        if (sourcePid == targetPid && source.Overlaps(new PageRange(destination, destination + source.Length)))
            throw Invalid("source and destination overlap in one process");
        return source;

        static PvmmapException Invalid(string hint) => new(Errno.EINVAL, "check the arguments", hint: hint);
    }
}
