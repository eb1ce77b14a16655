using Pvmmap.Holder;
using Pvmmap.Linux;
using Pvmmap.Procfs;

namespace Pvmmap.Source;

/// <summary>What is mapped in the pieces of a source range, open in this process. Several pieces of one file (a library's segments) share a descriptor.</summary>
internal sealed class MappedObjects : IDisposable
{
    private readonly Dictionary<SourcePiece, FileDescriptor> byPiece = [];
    private readonly Dictionary<(uint Major, uint Minor, ulong Inode, MemoryKind Kind, bool MayWrite), FileDescriptor> byFile = [];

    /// <summary>Opens all of them; an error names the VMA that cannot be had.</summary>
    public static MappedObjects Open(HolderProcess holder, int sourcePid, FileDescriptor sourcePidfd, SourcePlan plan)
    {
        MappedObjects objects = new();
        try
        {
            foreach (SourcePiece piece in plan.Pieces)
            {
                if (!piece.HasObject) continue;
                Vma vma = piece.Mapped!;
                var file = (vma.DeviceMajor, vma.DeviceMinor, vma.Inode, piece.Kind, piece.Flags.HasFlag(VmFlags.MayWrite));
                if (!objects.byFile.TryGetValue(file, out FileDescriptor? descriptor))
                    objects.byFile.Add(file, descriptor = MappedObject.Open(holder.Pid, sourcePid, sourcePidfd, piece));
                objects.byPiece.Add(piece, descriptor);
            }
            return objects;
        }
        catch
        {
            objects.Dispose();
            throw;
        }
    }

    public FileDescriptor this[SourcePiece piece] => byPiece[piece];

    public void Dispose()
    {
        foreach (FileDescriptor descriptor in byFile.Values) descriptor.Dispose();
        byFile.Clear();
        byPiece.Clear();
    }
}
