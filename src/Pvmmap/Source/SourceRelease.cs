using Pvmmap.Linux;
using Pvmmap.Procfs;
using Pvmmap.Remote;

namespace Pvmmap.Source;

/// <summary>
/// The end of a move whose memory was duplicated: the original is unmapped. Out of the middle of a VMA that makes one VMA more, which the kernel
/// refuses at vm.max_map_count. So room for it is kept before the target gives anything up, by mappings that are given up for it.
/// </summary>
internal sealed class SourceRelease(IProcessCalls source, PageRange range) : IDisposable
{
    // mmap() allows a process one mapping more than munmap() does.
    private const int MappingsKept = 2;

    // Shared, each of an object of its own: private ones would join their neighbours and keep no room.
    private const uint Kind = Memory.MAP_SHARED | Memory.MAP_ANONYMOUS | Memory.MAP_NORESERVE;

    private readonly List<(long Address, int Undo)> room = [];

    /// <summary>Finds out whether the range can be unmapped: what would fail then fails here. ENOMEM.</summary>
    public void Prepare()
    {
        try
        {
            if (Maps.Read(source.Pid, range) is not [{ } vma] || vma.Range.Start == range.Start || vma.Range.End == range.End) return;
            while (room.Count < MappingsKept)
            {
                SyscallResult mapped = source.InvokeUndoable(SystemCall.SYS_munmap, (long)PageRange.PageSize, out int undo, SystemCall.SYS_mmap, 0,
                    (long)PageRange.PageSize, Memory.PROT_NONE, Kind, -1, 0);
                // mlockall(MCL_FUTURE) and RLIMIT_MEMLOCK.
                if (mapped.Errno == Errno.EAGAIN) mapped = new SyscallResult(-(long)Errno.ENOMEM);
                long address = mapped.OrThrow("make room for the release of the source range", source.Pid, range, "the source's map count or limits do not allow it");
                room.Add((address, undo));
            }
        }
        catch (PvmmapException e) when (e.Errno == Errno.ESRCH)
        {
            // Killed meanwhile: the range went with it.
        }
    }

    /// <summary>Unmaps the range.</summary>
    public void Unmap()
    {
        Dispose();
        SyscallResult unmapped = source.Invoke(SystemCall.SYS_munmap, (long)range.Start, (long)range.Length);
        // Killed meanwhile: the range went with it, and the target has it all.
        if (unmapped.Errno != Errno.ESRCH) unmapped.OrThrow("release the source range", source.Pid, range);
    }

    public void Dispose()
    {
        try
        {
            foreach ((long address, int undo) in room) source.InvokeDisarming(undo, SystemCall.SYS_munmap, address, (long)PageRange.PageSize);
        }
        catch (PvmmapException e) when (e.Errno is Errno.ESRCH or Errno.EAGAIN)
        {
            // The process is gone, or the tracer, and it undoes it by itself.
        }
        room.Clear();
    }
}
