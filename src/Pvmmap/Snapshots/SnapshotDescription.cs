using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Serialization;
using Pvmmap.Holder;
using Pvmmap.Linux;

namespace Pvmmap.Snapshots;

/// <summary>All that a snapshot is but the memory: what its keeper has in a file for whoever opens it later.</summary>
internal sealed record SnapshotDescription
{
    public required SnapshotIdentity Identity { get; init; }

    public DateTimeOffset TakenAt { get; init; }

    public TimeSpan StopTime { get; init; }

    public byte[] AuxiliaryVector { get; init; } = [];

    public IReadOnlyList<SnapshotRange> Ranges { get; init; } = [];

    public IReadOnlyList<SnapshotThread> Threads { get; init; } = [];

    public IReadOnlyList<SnapshotDescriptor> Descriptors { get; init; } = [];

    /// <summary>Pages of ranges that are there otherwise: they could not be read when the snapshot was taken.</summary>
    public IReadOnlyList<PageRange> Unreadable { get; init; } = [];

    public IReadOnlyList<string> Notes { get; init; } = [];

    /// <summary>Bytes of the file that the keeper maps, with room for so many ranges to be unmapped.</summary>
    public static ulong MappedBytes(int drops)
    {
        ulong bytes = (ulong)Marshal.SizeOf<KeeperHeader>() + ((ulong)drops * 16);
        return (bytes + PageRange.PageSize - 1) & ~(PageRange.PageSize - 1);
    }

    /// <summary>Puts it into a memfd for the keeper.</summary>
    /// <param name="drops">What the keeper is to unmap.</param>
    /// <param name="mapped">Bytes that it maps: <see cref="MappedBytes"/> of at least as many ranges.</param>
    public FileDescriptor Write(IReadOnlyList<PageRange> drops, ulong mapped)
    {
        byte[] text = JsonSerializer.SerializeToUtf8Bytes(this, SnapshotJson.Default.SnapshotDescription);
        FileDescriptor file = Memfd.Create("pvmmap-snapshot", (long)mapped);
        try
        {
            byte[] head = new byte[mapped];
            KeeperHeader header = new()
            {
                Magic = KeeperHeader.MagicValue,
                DropCount = (ulong)drops.Count,
                TextOffset = mapped,
                TextLength = (ulong)text.Length,
                OwnerPid = Environment.ProcessId,
            };
            MemoryMarshal.Write(head, header);
            MemoryMarshal.AsBytes<PageRange>(drops.ToArray()).CopyTo(head.AsSpan(Marshal.SizeOf<KeeperHeader>()));
            Files.WriteAll(file, head, 0);
            Files.WriteAll(file, text, mapped);
            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Reads it. Null if it is not such a file.</summary>
    /// <param name="file">The file.</param>
    /// <param name="owner">The process that it goes with; 0 if it stays.</param>
    /// <exception cref="PvmmapException">EINVAL: another version wrote it.</exception>
    public static SnapshotDescription? Read(FileDescriptor file, out int owner)
    {
        byte[] head = new byte[Marshal.SizeOf<KeeperHeader>()];
        owner = 0;
        if (Files.Read(file, head, 0).Raw != head.Length) return null;
        KeeperHeader header = MemoryMarshal.Read<KeeperHeader>(head);
        if (header.Magic != KeeperHeader.MagicValue || header.TextLength > int.MaxValue) return null;
        owner = header.OwnerPid;
        byte[] text = new byte[header.TextLength];
        for (int done = 0; done < text.Length;)
        {
            SyscallResult got = Files.Read(file, text.AsSpan(done), header.TextOffset + (ulong)done);
            if (got.Raw <= 0) return null;
            done += (int)got.Value;
        }
        try
        {
            return JsonSerializer.Deserialize(text, SnapshotJson.Default.SnapshotDescription);
        }
        catch (JsonException)
        {
            throw new PvmmapException(Errno.EINVAL, "open the snapshot", hint: "it was taken by another version of this library, which has to read it");
        }
    }

    /// <summary>Marks it as one that stays.</summary>
    public static void Disown(FileDescriptor file) =>
        Files.WriteAll(file, new byte[sizeof(int)], (ulong)Marshal.OffsetOf<KeeperHeader>(nameof(KeeperHeader.OwnerPid)));
}

[JsonSerializable(typeof(SnapshotDescription))]
internal sealed partial class SnapshotJson : JsonSerializerContext;
