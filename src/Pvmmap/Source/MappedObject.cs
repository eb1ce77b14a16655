using System.Globalization;
using Pvmmap.Linux;
using Pvmmap.Procfs;

namespace Pvmmap.Source;

/// <summary>The file, memfd or shared memory behind a mapping of the source, opened in this process so that the target can map it too.</summary>
internal static class MappedObject
{
    /// <summary>Opens it. EPERM if this process may not, EFAULT if what it may open cannot be mapped as the source has it; both name the VMA.</summary>
    /// <param name="holderPid">The holder: it has the mappings as they were at the cut.</param>
    /// <param name="sourcePid">The source.</param>
    /// <param name="sourcePidfd">Its pidfd.</param>
    /// <param name="piece">The mapping.</param>
    public static FileDescriptor Open(int holderPid, int sourcePid, FileDescriptor sourcePidfd, SourcePiece piece)
    {
        Vma vma = piece.Mapped!;
        bool write = piece.Kind == MemoryKind.Shared && (piece.Protection.HasFlag(Protection.Write) || piece.Flags.HasFlag(VmFlags.MayWrite));
        SyscallResult opened = OpenByMapping(holderPid, piece.Range, write);
        // The kernel follows these links for CAP_CHECKPOINT_RESTORE and CAP_SYS_ADMIN only (proc(5)).
        if (opened.Errno is Errno.EPERM or Errno.ENOENT or Errno.ESRCH)
            return OpenByDescriptor(sourcePid, sourcePidfd, vma, write) ?? OpenByPath(sourcePid, vma, write) ?? throw Refusal(opened.Errno);
        // The source was given it for writing by somebody who may; mapped for reading only, that is no loss.
        if (opened.Failed && write && !piece.Protection.HasFlag(Protection.Write)) opened = OpenByMapping(holderPid, piece.Range, write: false);
        return opened.Failed ? throw Refusal(opened.Errno) : new FileDescriptor(opened.Value);

        PvmmapException Refusal(Errno errno) => errno is Errno.EPERM or Errno.EACCES or Errno.ENOENT or Errno.ESRCH
            ? new PvmmapException(Errno.EPERM, "open what the source has mapped", sourcePid, piece.Range,
                $"{vma}: the caller cannot open it by a descriptor of the source or by its path; CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN allows it")
            : new PvmmapException(Errno.EFAULT, "open what the source has mapped", sourcePid, piece.Range, $"{vma}: {errno}; take what lies before and behind it");
    }

    private static SyscallResult OpenByMapping(int holderPid, PageRange range, bool write)
    {
        if (KernelFeatures.IsWithout(KernelFeature.MapFiles)) return new SyscallResult(-(long)Errno.ENOENT);
        using MapsFile maps = MapsFile.Open(holderPid);
        if (maps.FindRangeFrom(range.Start) is not { } whole || !whole.Contains(range)) return new SyscallResult(-(long)Errno.ENOENT);
        string path = string.Create(CultureInfo.InvariantCulture, $"/proc/{holderPid}/map_files/{whole.Start:x}-{whole.End:x}");
        return Files.TryOpen(path, write ? Files.O_RDWR : Files.O_RDONLY);
    }

    private static FileDescriptor? OpenByDescriptor(int sourcePid, FileDescriptor sourcePidfd, Vma vma, bool write)
    {
        string[] links;
        try
        {
            links = Directory.GetFileSystemEntries(string.Create(CultureInfo.InvariantCulture, $"/proc/{sourcePid}/fd"));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
        string name = vma.Path[(vma.Path.LastIndexOf('/') + 1)..];
        foreach (string link in links)
        {
            // Another mount namespace shows another path to it, but the same last part.
            if (new FileInfo(link).LinkTarget is not { } target || !target.Contains(name, StringComparison.Ordinal)) continue;
            SyscallResult taken = Pidfd.GetFd(sourcePidfd, int.Parse(Path.GetFileName(link.AsSpan()), CultureInfo.InvariantCulture));
            // Opened anew, it is the same file, with permissions checked once more.
            if (taken.Errno is Errno.ENOSYS or Errno.EPERM) taken = Files.TryOpen(link, write ? Files.O_RDWR : Files.O_RDONLY);
            if (taken.Failed) continue;
            FileDescriptor descriptor = new(taken.Value);
            if (IsOf(vma, descriptor, write)) return descriptor;
            descriptor.Dispose();
        }
        return null;
    }

    private static FileDescriptor? OpenByPath(int sourcePid, Vma vma, bool write)
    {
        if (vma.IsDeleted || !vma.Path.StartsWith('/')) return null;
        SyscallResult opened = Files.TryOpen(string.Create(CultureInfo.InvariantCulture, $"/proc/{sourcePid}/root{vma.Path}"), write ? Files.O_RDWR : Files.O_RDONLY);
        if (opened.Failed) return null;
        FileDescriptor descriptor = new(opened.Value);
        if (IsOf(vma, descriptor, write)) return descriptor;
        descriptor.Dispose();
        return null;
    }

    // Mapped here, the kernel names it as it does there: stat() shows another device number on some file systems (btrfs, overlayfs).
    private static bool IsOf(Vma vma, FileDescriptor descriptor, bool write)
    {
        int protection = write ? Memory.PROT_READ | Memory.PROT_WRITE : Memory.PROT_READ;
        SyscallResult mapped = Memory.Map(0, PageRange.PageSize, protection, Memory.MAP_SHARED, descriptor.Number);
        if (mapped.Failed) return false;
        Vma? here = null;
        try
        {
            using MapsFile maps = MapsFile.Open(Environment.ProcessId);
            here = maps.FindFrom((ulong)mapped.Value);
            return here is not null && here.HasFileOf(vma);
        }
        finally
        {
            SyscallResult unmapped = Memory.Unmap((ulong)mapped.Value, PageRange.PageSize);
            // A mapping of a huge page is longer than was asked for, goes as a whole, and is never joined to another.
            if (unmapped.Errno == Errno.EINVAL && here is not null) unmapped = Memory.Unmap((ulong)mapped.Value, here.Range.Length);
            unmapped.OrThrow("unmap what the source has mapped");
        }
    }
}
