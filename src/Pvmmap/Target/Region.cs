using System.Numerics;
using System.Runtime.InteropServices;
using System.Text;
using Pvmmap.Holder;
using Pvmmap.Linux;
using Pvmmap.Procfs;
using Pvmmap.Remote;
using Pvmmap.Source;

namespace Pvmmap.Target;

/// <summary>
/// The new memory in the target. With FIXED it is built at an address that nobody there knows and moved over the destination as the last step, so
/// that other threads see the old content or the new; otherwise it is built where it stays.
/// </summary>
internal sealed class Region
{
    private readonly IReadOnlyList<SourcePiece> pieces;
    private readonly PageRange source;
    private readonly ulong final;

    private Region(IReadOnlyList<SourcePiece> pieces, PageRange source, ulong built, ulong final)
    {
        this.pieces = pieces;
        this.source = source;
        this.final = final;
        Address = built;
    }

    /// <summary>Room below a MAP_GROWSDOWN region in which its growth during the fill is known to be new memory: the usual RLIMIT_STACK.</summary>
    public const ulong GrowthRoom = 8 << 20;

    /// <summary>Its lower end grows downward like a stack.</summary>
    public bool GrowsDown => pieces[0].IsAnonymous && pieces[0].Flags.HasFlag(VmFlags.GrowsDown);

    /// <summary>Where it is now.</summary>
    public ulong Address { get; private set; }

    /// <summary>Where it will be when the call returns.</summary>
    public ulong Destination => final;

    public PageRange Range => new(Address, Address + source.Length);

    /// <summary>It lies where a program that has just begun has nothing.</summary>
    public bool IsRemote { get; private init; }

    /// <summary>True if it is not at its place yet: <see cref="Commit"/> moves it there.</summary>
    public bool MustMove => Address != final;

    /// <summary>True if other threads could see a part of it moved and a part not: all must stand still while it moves.</summary>
    public bool MovesInPieces => MustMove && pieces.Count > 1;

    /// <summary>Maps the region, not accessible yet. <paramref name="undo"/> unmaps it if this process dies.</summary>
    /// <param name="target">Who is to have it.</param>
    /// <param name="plan">What lies in the source range.</param>
    /// <param name="destination">Where it is to lie in the end; 0: anywhere.</param>
    /// <param name="flags">Of these FIXED and FIXED_NOREPLACE.</param>
    /// <param name="undo">The entry that unmaps it.</param>
    /// <param name="ahead">
    /// Huge pages are to be written into it while the target runs: it begins, if it may lie anywhere, at the same distance from a huge page's border as the source range, and remote from
    /// everything else.
    /// </param>
    public static Region Map(IProcessCalls target, SourcePlan plan, ulong destination, MmapFlags flags, out int undo, bool ahead = false)
    {
        bool exact = flags.HasFlag(MmapFlags.FixedNoReplace), replace = !exact && flags.HasFlag(MmapFlags.Fixed);
        uint type = BaseType(plan.Pieces);
        ulong length = plan.Range.Length, at = destination, alignment = Math.Max(plan.Alignment, ahead ? ControlPage.HugePageBytes : 0), start = plan.Range.Start;
        bool aligned = alignment == PageRange.PageSize, seek = replace || (!aligned && !exact);
        if (!aligned && (exact || replace) && ((destination - start) & (alignment - 1)) != 0)
        {
            throw new PvmmapException(Errno.EINVAL, "map the destination", target.Pid, new PageRange(destination, destination + length),
                $"huge pages in the source range need a destination at the same distance from a multiple of {alignment} bytes as the source");
        }
        if (exact || seek) type |= Memory.MAP_FIXED_NOREPLACE;
        SyscallResult mapped;
        int attempt = 0;
        bool remote = false;
        PageRange replaced = replace ? new PageRange(destination, destination + length) : default;
        do
        {
            remote = ahead && seek && AddressSpace.TryFindRemoteGap(target.Maps, length, replaced, alignment, start, out at);
            if (seek && !remote) at = FindGap(target.Maps, length, replaced, alignment, start);
            mapped = target.InvokeUndoable(SystemCall.SYS_munmap, (long)length, out undo, SystemCall.SYS_mmap, (long)at, (long)length, Memory.PROT_NONE, type, -1, 0);
        }
        // Another thread of the target was quicker to take the gap.
        while (seek && mapped.Errno == Errno.EEXIST && ++attempt < AddressSpace.Attempts);
        // EAGAIN: mlockall(MCL_FUTURE) and RLIMIT_MEMLOCK.
        if (mapped.Errno == Errno.EAGAIN || (seek && mapped.Errno == Errno.EEXIST)) mapped = new SyscallResult(-(long)Errno.ENOMEM);
        ulong address = (ulong)mapped.OrThrow("map the destination", target.Pid, exact ? new PageRange(at, at + length) : null, mapped.Errno switch
        {
            Errno.EEXIST => "something is mapped there (FIXED_NOREPLACE)",
            Errno.ENOMEM => "the target's map count, RLIMIT_AS, RLIMIT_DATA, overcommit or address space does not allow it",
            Errno.EPERM => "below vm.mmap_min_addr",
            _ => null,
        });
        return new Region(plan.Pieces, plan.Range, address, replace ? destination : address) { IsRemote = remote };
    }

    private static ulong FindGap(MapsFile maps, ulong length, PageRange apartFrom, ulong alignment, ulong alike)
    {
        maps.Refresh();
        return AddressSpace.FindGap(maps, length, apartFrom, alignment, alike);
    }

    // What the first mapping is; pieces that are anything else are mapped over it.
    private static uint BaseType(IReadOnlyList<SourcePiece> pieces)
    {
        const uint type = Memory.MAP_PRIVATE | Memory.MAP_ANONYMOUS;
        uint own = OwnType(pieces[0]);
        return pieces.All(piece => piece.IsAnonymous && OwnType(piece) == own) && (pieces.Count == 1 || (own & Memory.MAP_GROWSDOWN) == 0) ? type | own : type;
    }

    private static uint OwnType(SourcePiece piece)
    {
        uint type = 0;
        if (piece.Flags.HasFlag(VmFlags.NoReserve)) type |= Memory.MAP_NORESERVE;
        if (piece.Flags.HasFlag(VmFlags.GrowsDown)) type |= Memory.MAP_GROWSDOWN;
        return type;
    }

    /// <summary>Maps the pieces that are not what the region as a whole was mapped as. Nobody in the target knows of them yet.</summary>
    /// <param name="target">Who has the region.</param>
    /// <param name="objects">What the source has mapped in them.</param>
    /// <param name="isChanged">Whether the source has changed pages of a private piece, which will be written there.</param>
    public void MapPieces(IProcessCalls target, MappedObjects objects, Func<SourcePiece, bool> isChanged)
    {
        uint first = BaseType(pieces) & (Memory.MAP_NORESERVE | Memory.MAP_GROWSDOWN);
        using DescriptorChannel channel = new(target);
        foreach (SourcePiece piece in pieces)
        {
            if (piece.HasObject) MapObject(target, channel, piece, objects[piece], isChanged);
            else if (piece.Kind == MemoryKind.PrivateHugePages) MapHugePages(target, piece);
            else if (OwnType(piece) != first) MapOver(target, piece, Memory.PROT_NONE, Memory.MAP_PRIVATE | Memory.MAP_ANONYMOUS | OwnType(piece), -1).OrThrow(
                "map the destination", target.Pid, At(piece), "the target's map count or limits do not allow it");
        }
    }

    private void MapObject(IProcessCalls target, DescriptorChannel channel, SourcePiece piece, FileDescriptor descriptor, Func<SourcePiece, bool> isChanged)
    {
        SyscallResult passed = channel.Pass(descriptor, out int undo);
        if (passed.Failed)
        {
            bool full = passed.Errno is Errno.EMFILE or Errno.ENFILE;
            throw new PvmmapException(full ? Errno.ENOMEM : passed.Errno, "give the target what the source has mapped", target.Pid, piece.Range,
                full ? "the target's descriptor table is full (RLIMIT_NOFILE)" : "the target cannot receive a descriptor over a local socket");
        }
        bool shared = piece.Kind == MemoryKind.Shared;
        // Writable only for as long as pages are written there, and if there are any: it counts as committed memory from then on.
        Protection protection = !shared && isChanged(piece) ? Protection.Read | Protection.Write : piece.Protection;
        uint type = (shared ? (uint)Memory.MAP_SHARED : Memory.MAP_PRIVATE) | (OwnType(piece) & Memory.MAP_NORESERVE);
        SyscallResult mapped = MapOver(target, piece, (long)protection, type, passed.Value);
        channel.Close((int)passed.Value, undo);
        if (mapped.Errno is Errno.EACCES or Errno.EPERM or Errno.ENODEV or Errno.EINVAL or Errno.ENXIO)
        {
            throw new PvmmapException(Errno.EFAULT, "map in the target what the source has mapped", target.Pid, piece.Range,
                $"{piece.Mapped}: {mapped.Errno}; it is sealed against new mappings (memfd), on a file system mounted noexec, or a device; take what lies before and behind it");
        }
        mapped.OrThrow("map in the target what the source has mapped", target.Pid, piece.Range, $"{piece.Mapped}: the target's map count or limits do not allow it");
    }

    private void MapHugePages(IProcessCalls target, SourcePiece piece)
    {
        uint size = (uint)BitOperations.Log2(piece.PageBytes);
        uint type = Memory.MAP_PRIVATE | Memory.MAP_ANONYMOUS | Memory.MAP_HUGETLB | (size << Memory.MAP_HUGE_SHIFT) | OwnType(piece);
        MapOver(target, piece, Memory.PROT_READ | Memory.PROT_WRITE, type, -1).OrThrow("map huge pages in the target", target.Pid, piece.Range,
            $"the pool has too few free pages of {piece.PageBytes >> 10} KiB (vm.nr_hugepages, /sys/kernel/mm/hugepages), or the target's cgroup or limits do not allow it");
    }

    private SyscallResult MapOver(IProcessCalls target, SourcePiece piece, long protection, uint type, long descriptor)
    {
        PageRange at = At(piece);
        return target.Invoke(SystemCall.SYS_mmap, (long)at.Start, (long)at.Length, protection, type | Memory.MAP_FIXED, descriptor,
            piece.HasObject ? (long)piece.Mapped!.Offset : 0);
    }

    /// <summary>Where a range of the source lies in the region now.</summary>
    public PageRange At(PageRange inSource) => new(Address + (inSource.Start - source.Start), Address + (inSource.End - source.Start));

    private PageRange At(SourcePiece piece) => At(piece.Range);

    /// <summary>Gives each piece its memory policy, before there is a page in it. What the target cannot have is said.</summary>
    public IEnumerable<string> SetPolicies(IProcessCalls target)
    {
        List<string> notes = [];
        foreach (SourcePiece piece in pieces)
        {
            if (piece.Policy is not { } policy) continue;
            PageRange at = At(piece);
            ulong[] mask = policy.Mask();
            target.Write(target.Scratch, MemoryMarshal.AsBytes<ulong>(mask));
            // The kernel takes one bit less than it is told.
            long bits = mask.Length == 0 ? 0 : mask.Length * 64 + 1;
            SyscallResult set = policy.IsUnknown ? new SyscallResult(-(long)Errno.EINVAL)
                : target.Invoke(SystemCall.SYS_mbind, (long)at.Start, (long)at.Length, policy.Mode, bits == 0 ? 0 : (long)target.Scratch, bits, 0);
            if (set.Failed) notes.Add($"the memory policy of {piece.Range} ({policy}) is not carried: {set.Errno}; the target may not use those nodes");
        }
        return notes;
    }

    /// <summary>Gives each piece its protection and attributes.</summary>
    public void Dress(IProcessCalls target)
    {
        foreach (SourcePiece piece in pieces)
        {
            PageRange at = At(piece);
            long start = (long)at.Start, length = (long)at.Length;
            Protect(target, at, piece.Protection);
            // Advice: a kernel built without the feature says EINVAL and has nothing to carry.
            if (piece.Flags.HasFlag(VmFlags.HugePage)) target.Invoke(SystemCall.SYS_madvise, start, length, Memory.MADV_HUGEPAGE);
            if (piece.Flags.HasFlag(VmFlags.NoHugePage)) target.Invoke(SystemCall.SYS_madvise, start, length, Memory.MADV_NOHUGEPAGE);
            if (piece.Flags.HasFlag(VmFlags.DontDump)) target.Invoke(SystemCall.SYS_madvise, start, length, Memory.MADV_DONTDUMP);
            if (piece.Flags.HasFlag(VmFlags.SeqRead)) target.Invoke(SystemCall.SYS_madvise, start, length, Memory.MADV_SEQUENTIAL);
            if (piece.Flags.HasFlag(VmFlags.RandRead)) target.Invoke(SystemCall.SYS_madvise, start, length, Memory.MADV_RANDOM);
            if (piece.Flags.HasFlag(VmFlags.Mergeable)) target.Invoke(SystemCall.SYS_madvise, start, length, Memory.MADV_MERGEABLE);
            if (piece.AnonymousName is { } name && !KernelFeatures.IsWithout(KernelFeature.AnonVmaName))
            {
                target.Write(target.Scratch, Encoding.UTF8.GetBytes(name + "\0"));
                target.Invoke(SystemCall.SYS_prctl, Prctl.PR_SET_VMA, Prctl.PR_SET_VMA_ANON_NAME, start, length, (long)target.Scratch);
            }
        }
    }

    /// <summary>For a fill of the anonymous memory from outside, by process_vm_writev, before <see cref="Dress"/>.</summary>
    public void MakeWritable(IProcessCalls target)
    {
        foreach (SourcePiece piece in pieces)
        {
            if (piece.IsAnonymous) Protect(target, At(piece), Protection.Read | Protection.Write);
        }
    }

    private static void Protect(IProcessCalls target, PageRange range, Protection protection) =>
        target.Invoke(SystemCall.SYS_mprotect, (long)range.Start, (long)range.Length, (long)protection)
            .OrThrow("protect the destination as the source is", target.Pid, range, "the target's map count or overcommit limit does not allow it");

    /// <summary>
    /// Makes the region the target's own: from one instant to the next its unmapping, <paramref name="undo"/>, is off the list, and should this
    /// process be killed before all pieces are in place, the target puts the others there by itself. One that was built elsewhere is moved over the destination: what
    /// was mapped there goes in the same step, and mremap() waits until a holder has read its event. Nothing that can be checked beforehand fails here: the kernel
    /// refuses for want of map count before it unmaps anything.
    /// </summary>
    /// <param name="target">Who has the region.</param>
    /// <param name="undo">What unmaps it.</param>
    /// <param name="announce">Let the holder of a move know, who waits for it: by an event of the region.</param>
    public void Commit(IProcessCalls target, int undo, bool announce)
    {
        if (!MustMove && !announce)
        {
            Step.Reached(CallStep.CommitPrepared);
            target.ClearUndo(undo);
            // If its tracer had died before, it was on its way back already.
            target.Confirm();
            return;
        }
        if (!MustMove)
        {
            Step.Reached(CallStep.CommitPrepared);
            // Nothing is there to be dropped yet.
            Placed(target, target.InvokeDisarming(undo, SystemCall.SYS_madvise, (long)Address, (long)PageRange.PageSize, Memory.MADV_DONTNEED));
            return;
        }
        // In this order: undone as a whole, the rest finds nothing to move.
        List<int> rest = [.. pieces.Skip(1).Take(RememberedPieces).Select(piece =>
            target.AddUndo(SystemCall.SYS_mremap, From(piece), (long)piece.Range.Length, (long)piece.Range.Length, Replacing, To(piece)))];
        Step.Reached(CallStep.CommitPrepared);
        SourcePiece first = pieces[0];
        Placed(target, target.InvokeDisarming(
            undo, SystemCall.SYS_mremap, From(first), (long)first.Range.Length, (long)first.Range.Length, Replacing, To(first)));
        if (pieces.Count > 1) Step.Reached(CallStep.FirstPieceInPlace);
        foreach (SourcePiece piece in pieces.Skip(1))
            Placed(target, target.Invoke(SystemCall.SYS_mremap, From(piece), (long)piece.Range.Length, (long)piece.Range.Length, Replacing, To(piece)));
        foreach (int entry in rest) target.ClearUndo(entry);
        Address = final;
    }

    /// <summary>The target has put it in place, which somebody else has seen.</summary>
    public void TakeAsPlaced() => Address = final;

    private const long Replacing = Memory.MREMAP_MAYMOVE | Memory.MREMAP_FIXED;

    /// <summary>How many pieces the target can put in place by itself.</summary>
    private const int RememberedPieces = 10;

    private long From(SourcePiece piece) => (long)At(piece).Start;

    private long To(SourcePiece piece) => (long)(final + (piece.Range.Start - source.Start));

    private void Placed(IProcessCalls target, SyscallResult result) =>
        result.OrThrow("put the region in place", target.Pid, new PageRange(final, final + source.Length), "the target's map count or limits do not allow it");

    /// <summary>What unmaps it in a later visit than that of <see cref="Map"/>, if this process dies.</summary>
    public int AddUndo(IProcessCalls target) => target.AddUndo(SystemCall.SYS_munmap, (long)Address, (long)source.Length);

    /// <summary>Gives the whole of it some advice: <see cref="Memory.MADV_DONTFORK"/> as long as a child of the target would have a part of its content only.</summary>
    public void Advise(IProcessCalls target, long advice) =>
        target.Invoke(SystemCall.SYS_madvise, (long)Address, (long)source.Length, advice).OrThrow("make the destination ready", target.Pid, Range, "the target's map count does not allow it");

    /// <summary>ESRCH: there is no such region any more, nor the program that had it.</summary>
    public PvmmapException Gone(int targetPid) => new(Errno.ESRCH, "fill the destination", targetPid, Range, "the target ended or called execve during the fill");

    /// <summary>Takes the region away again, and <paramref name="undo"/>, which would do so, in the same instant: something else may be there in the next.</summary>
    public void Unmap(IProcessCalls target, int undo) => target.InvokeDisarming(undo, SystemCall.SYS_munmap, (long)Address, (long)source.Length);
}
