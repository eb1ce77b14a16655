using System.Collections.Concurrent;
using Pvmmap.Linux;
using Pvmmap.Procfs;

namespace Pvmmap.Remote;

/// <summary>Code of a process's C library (or of a static program) that makes any system call and returns, and that returns from a signal.</summary>
/// <param name="SyscallReturn">Address of <c>syscall; ret</c>.</param>
/// <param name="Restore">Address of <c>mov $15,%rax; syscall</c>: rt_sigreturn.</param>
internal sealed record ReturningCode(ulong SyscallReturn, ulong Restore)
{
    private const int LargestText = 16 << 20;

    // By file and place in it; a library is searched once for all processes that map it.
    private static readonly ConcurrentDictionary<(uint, uint, ulong, ulong), (int SyscallReturn, int Restore)?> Known = new();

    private static ReadOnlySpan<byte> SyscallReturnCode => [0x0f, 0x05, 0xc3];

    private static ReadOnlySpan<byte> RestoreCode => [0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05];

    /// <summary>Null if no mapped file has both.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="maps">Its mappings.</param>
    /// <param name="near">Where a thread of it stands: in the C library mostly, in a system call.</param>
    public static ReturningCode? Find(int pid, MapsFile maps, ulong near)
    {
        if (maps.FindFrom(near) is { } here && IsText(here) && IsLibrary(here) && FindIn(pid, here) is { } found) return found;
        // The C library first; a static program has it within itself.
        return maps.All.Where(IsText).OrderByDescending(IsLibrary).Select(vma => FindIn(pid, vma)).FirstOrDefault(code => code is not null);
    }

    private static bool IsLibrary(Vma vma) => vma.Name.Contains("/libc", StringComparison.Ordinal) || vma.Name.Contains("/ld-musl", StringComparison.Ordinal);

    private static ReturningCode? FindIn(int pid, Vma vma)
    {
        (uint, uint, ulong, ulong) key = (vma.DeviceMajor, vma.DeviceMinor, vma.Inode, vma.Offset);
        if (!Known.TryGetValue(key, out (int SyscallReturn, int Restore)? offsets))
        {
            offsets = Search(pid, vma);
            Known[key] = offsets;
        }
        return offsets is { } found ? new ReturningCode(vma.Range.Start + (ulong)found.SyscallReturn, vma.Range.Start + (ulong)found.Restore) : null;
    }

    /// <summary>False if the process has something else there now: it has begun another program since its maps were read.</summary>
    public bool IsThere(int pid)
    {
        Span<byte> code = stackalloc byte[RestoreCode.Length];
        return Memory.ReadUpTo(pid, Restore, code) == code.Length && code.SequenceEqual(RestoreCode)
            && Memory.ReadUpTo(pid, SyscallReturn, code[..SyscallReturnCode.Length]) == SyscallReturnCode.Length && code.StartsWith(SyscallReturnCode);
    }

    private static bool IsText(Vma vma) => vma.IsFileBacked && vma.Protection.HasFlag(Protection.Execute) && vma.Range.Length <= LargestText;

    // Piece by piece with a small buffer: a whole library's text would be a megabyte of fresh memory, while a process stands still.
    private static (int, int)? Search(int pid, Vma vma)
    {
        const int pieceBytes = 16 * 1024;
        int overlap = RestoreCode.Length - 1;
        Span<byte> buffer = stackalloc byte[pieceBytes];
        int syscall = -1, restore = -1;
        for (int at = 0; at < (int)vma.Range.Length && (syscall < 0 || restore < 0); at += pieceBytes - overlap)
        {
            ReadOnlySpan<byte> code = buffer[..Memory.ReadUpTo(pid, vma.Range.Start + (ulong)at, buffer[..(int)Math.Min(pieceBytes, vma.Range.Length - (ulong)at)])];
            if (code.Length <= overlap) break;
            if (syscall < 0 && code.IndexOf(SyscallReturnCode) is var s && s >= 0) syscall = at + s;
            if (restore < 0 && code.IndexOf(RestoreCode) is var r && r >= 0) restore = at + r;
        }
        return syscall < 0 || restore < 0 ? null : (syscall, restore);
    }
}
