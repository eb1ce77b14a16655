namespace Pvmmap.Snapshots;

/// <summary>One mapping of the process at the instant of the snapshot: a line of /proc/PID/maps with what smaps adds.</summary>
public sealed record SnapshotRange
{
    /// <summary>Its addresses.</summary>
    public required PageRange Range { get; init; }

    /// <summary>As maps shows them: "rw-p"; "p" for private, "s" for shared.</summary>
    public required string Permissions { get; init; }

    /// <summary>Bytes from the start of the file to the start of the range; 0 for anonymous memory.</summary>
    public ulong Offset { get; init; }

    /// <summary>Device of the file.</summary>
    public uint DeviceMajor { get; init; }

    /// <summary>Device of the file.</summary>
    public uint DeviceMinor { get; init; }

    /// <summary>Inode of the file; 0 if none is mapped.</summary>
    public ulong Inode { get; init; }

    /// <summary>Path or bracketed name as maps has it, " (deleted)" included; empty if there is none.</summary>
    public string Name { get; init; } = "";

    /// <summary>The two-letter codes of the line VmFlags in smaps, shortly before the stop: "rd wr mr mw me ac". Empty for a mapping that is newer.</summary>
    public string Flags { get; init; } = "";

    /// <summary>
    /// The other figures of smaps, shortly before the stop; null for a mapping that is newer, and in a snapshot of the own process.
    /// </summary>
    public SnapshotUsage? Usage { get; init; }

    /// <summary>Where the bytes are.</summary>
    public SnapshotContent Content { get; init; }

    /// <summary>Why the content is <see cref="SnapshotContent.Absent"/>; else null.</summary>
    public string? Reason { get; init; }

    /// <summary>Some file is mapped: also a memfd and shared memory of any kind.</summary>
    public bool IsFileBacked => Inode != 0;

    /// <summary>MAP_SHARED.</summary>
    public bool IsShared => Permissions.EndsWith('s');

    /// <summary>PROT_READ.</summary>
    public bool IsReadable => Permissions.StartsWith('r');

    /// <summary>PROT_WRITE.</summary>
    public bool IsWritable => Permissions[1] == 'w';

    /// <summary>PROT_EXEC.</summary>
    public bool IsExecutable => Permissions[2] == 'x';

    /// <summary>As a line of maps.</summary>
    public override string ToString() => Name.Length == 0 ? $"{Range} {Permissions}" : $"{Range} {Permissions} {Name}";
}
