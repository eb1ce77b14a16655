using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Pvmmap.Native;

/// <summary>The C function of include/process_vm_mmap.h.</summary>
internal static unsafe partial class ProcessVmMmap
{
    [UnmanagedCallersOnly(EntryPoint = "process_vm_mmap", CallConvs = [typeof(CallConvCdecl)])]
    private static nint Call(int pid, nuint sourceAddress, nuint length, nuint destinationAddress, nuint flags)
    {
        Errno errno;
        try
        {
            MmapResult result = ProcessVm.Mmap(pid, sourceAddress, length, destinationAddress, (MmapFlags)(ulong)flags);
            result.Duplication.Dispose();
            return (nint)result.Address;
        }
        catch (PvmmapException e)
        {
            errno = e.Errno;
        }
#pragma warning disable CA1031 // An exception that crosses into C ends the process: whatever it is becomes an errno.
        catch (Exception e)
#pragma warning restore CA1031
        {
            errno = e is OutOfMemoryException ? Errno.ENOMEM : Errno.EIO;
        }

        // Nothing may come between this store and the return: the runtime's own system calls would overwrite errno.
        *ErrnoLocation() = (int)errno;
        return -1;
    }

    [LibraryImport("libc", EntryPoint = "__errno_location")]
    [SuppressGCTransition]
    private static partial int* ErrnoLocation();
}
