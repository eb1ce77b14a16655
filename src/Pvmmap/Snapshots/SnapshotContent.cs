namespace Pvmmap.Snapshots;

/// <summary>Where the bytes of a <see cref="SnapshotRange"/> are.</summary>
public enum SnapshotContent
{
    /// <summary>In the snapshot, as they were at its instant.</summary>
    Taken,

    /// <summary>
    /// In a file that the process had mapped: private pages that it had changed are in the snapshot, all others, and all pages of a shared mapping
    /// that it could not write, are read from the file as it is now.
    /// </summary>
    File,

    /// <summary>Nowhere; <see cref="SnapshotRange.Reason"/> says why. Reading is EFAULT.</summary>
    Absent,
}
