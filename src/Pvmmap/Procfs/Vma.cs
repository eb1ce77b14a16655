namespace Pvmmap.Procfs;

/// <summary>One virtual memory area: a line of /proc/PID/maps.</summary>
internal sealed record Vma
{
    private const string Deleted = " (deleted)";
    private const string PrivateAnonymous = "[anon:";
    private const string SharedAnonymous = "[anon_shmem:";

    public required PageRange Range { get; init; }

    public required Protection Protection { get; init; }

    /// <summary>MAP_SHARED. The kernel shows VM_MAYSHARE, so a shared mapping of a file opened read-only counts too.</summary>
    public bool Shared { get; init; }

    /// <summary>Bytes from the start of the file to the start of the range. Zero for private anonymous memory.</summary>
    public ulong Offset { get; init; }

    public uint DeviceMajor { get; init; }

    public uint DeviceMinor { get; init; }

    public ulong Inode { get; init; }

    /// <summary>The path or the bracketed name as the kernel gives it, newlines unescaped, " (deleted)" included; empty when there is none.</summary>
    public string Name { get; init; } = "";

    /// <summary>Some file is mapped: a path, a memfd, System V or anonymous shared memory, hugetlb, an AIO ring.</summary>
    public bool IsFileBacked => Inode != 0;

    /// <summary>The same file is mapped in both: seen by device and inode, which all processes show alike.</summary>
    public bool HasFileOf(Vma other) => IsFileBacked && Inode == other.Inode && DeviceMajor == other.DeviceMajor && DeviceMinor == other.DeviceMinor;

    /// <summary>The file has no name any more. A memfd never had one and is always in this state.</summary>
    public bool IsDeleted => IsFileBacked && Name.EndsWith(Deleted, StringComparison.Ordinal);

    /// <summary>Path of the mapped file without " (deleted)"; empty when no file is mapped.</summary>
    public string Path => !IsFileBacked ? "" : IsDeleted ? Name[..^Deleted.Length] : Name;

    /// <summary>A mapping the kernel itself made in this process; its content belongs to the kernel and the process's time namespace.</summary>
    public bool IsSpecial => !IsFileBacked && Name is "[vdso]" or "[vvar]" or "[vvar_vclock]" or "[vsyscall]" or "[uprobes]";

    /// <summary>The stack of the main thread. Old kernels (before 4.5) mark those of other threads "[stack:TID]".</summary>
    public bool IsStack => !IsFileBacked && (Name == "[stack]" || Name.StartsWith("[stack:", StringComparison.Ordinal));

    /// <summary>The name given by prctl(PR_SET_VMA_ANON_NAME); null when there is none.</summary>
    public string? AnonymousName => Bracketed(PrivateAnonymous) ?? Bracketed(SharedAnonymous);

    /// <summary>Like the line of maps: range, permissions, and the name if there is one.</summary>
    public override string ToString()
    {
        char read = Protection.HasFlag(Protection.Read) ? 'r' : '-';
        char write = Protection.HasFlag(Protection.Write) ? 'w' : '-';
        char execute = Protection.HasFlag(Protection.Execute) ? 'x' : '-';
        string line = $"{Range} {read}{write}{execute}{(Shared ? 's' : 'p')}";
        return Name.Length == 0 ? line : $"{line} {Name.Replace("\n", "\\012", StringComparison.Ordinal)}";
    }

    // A named shared anonymous mapping has an inode, so the bracket, which no path begins with, decides alone.
    private string? Bracketed(string prefix) =>
        Name.StartsWith(prefix, StringComparison.Ordinal) && Name.EndsWith(']') ? Name[prefix.Length..^1] : null;
}
