using System.Diagnostics;
using Pvmmap.Linux;
using Pvmmap.Source;

namespace Pvmmap;

/// <summary>One call, made by the kernel's process_vm_mmap(). The kernel checks everything; here only what it refused is explained.</summary>
/// <param name="pid">The other process: greater than 0 to take from it, less than 0 to give to it.</param>
/// <param name="sourceAddress">First byte to take.</param>
/// <param name="length">Bytes.</param>
/// <param name="destination">Where to map it.</param>
/// <param name="flags">How.</param>
internal sealed class KernelCall(int pid, ulong sourceAddress, ulong length, ulong destination, MmapFlags flags)
{
    private int SourcePid => pid > 0 ? pid : Environment.ProcessId;

    private int TargetPid => pid > 0 ? Environment.ProcessId : -pid;

    /// <summary>Makes the call.</summary>
    /// <param name="mayRefuse">Null is returned where the kernel does not do what can be done in user space.</param>
    /// <exception cref="PvmmapException">With the errno of the contract; both processes are as they were.</exception>
    public MmapResult? Run(bool mayRefuse)
    {
        long startedAt = Stopwatch.GetTimestamp();
        // Before the call: afterwards the number might be another's. What is wrong with it the kernel says itself.
        FileDescriptor? target = pid is 0 or int.MinValue ? null : Pidfd.TryOpen(TargetPid);
        try
        {
            SyscallResult result = ProcessVmMmap.Invoke(pid, (long)sourceAddress, (long)length, (long)destination, (long)flags);
            TimeSpan callTime = Stopwatch.GetElapsedTime(startedAt);
            if (result.Failed)
            {
                if (mayRefuse && (result.Errno is Errno.EOPNOTSUPP or Errno.ENOSYS)) return null;
                throw Explain(result.Errno);
            }
            _ = PageRange.TryRoundOutward(sourceAddress, length, out PageRange source);
            ulong address = (ulong)result.Value;
            MmapResult made = new()
            {
                Address = address,
                DataAddress = address + (sourceAddress - source.Start),
                Length = source.Length,
                Backend = Backend.Kernel,
                Duplication = new Duplication(SourcePid, TargetPid, source, address, flags.HasFlag(MmapFlags.Move), target),
                CallTime = callTime,
                SourceStopTime = TimeSpan.Zero,
                TargetStopTime = TimeSpan.Zero,
            };
            target = null;
            return made;
        }
        finally
        {
            target?.Dispose();
        }
    }

    // The kernel only has a number. Where the checks of the other way come to the same one, they can say which process or VMA it is about.
    private PvmmapException Explain(Errno errno)
    {
        try
        {
            PageRange source = ProcessVm.CheckArguments(SourcePid, TargetPid, sourceAddress, length, destination, flags);
            using Participant other = Participant.Open(Math.Abs(pid), pid > 0 ? "source" : "target");
            other.CheckPermission();
            SourcePlan.FromMaps(SourcePid, source);
        }
        catch (PvmmapException e) when (e.Errno == errno)
        {
            return e;
        }
        catch (PvmmapException)
        {
            // Another errno: it is about something else, or is no longer so.
        }
        PageRange? range = PageRange.TryRoundOutward(sourceAddress, length, out PageRange whole) ? whole : null;
        return new PvmmapException(errno, "process_vm_mmap", pid == int.MinValue ? 0 : Math.Abs(pid), range, errno switch
        {
            Errno.EOPNOTSUPP => $"the kernel's call does not take part of this range; set {Backends.Variable} to auto, and it is taken in user space",
            Errno.EEXIST => "something is mapped there (FIXED_NOREPLACE)",
            Errno.ENOMEM => "the target's map count, RLIMIT_AS or RLIMIT_DATA, the overcommit rule, or its address space leaves no room",
            _ => null,
        });
    }
}
