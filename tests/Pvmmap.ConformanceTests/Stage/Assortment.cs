using System.Text;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>One stretch of memory in a process that has every kind of it, one beside the other, each filled.</summary>
internal sealed class Assortment
{
    private const ulong Page = AddressSpace.Page, Piece = 16 * Page, Huge = HugePages.Size;
    private const long AtFdCwd = -100, ORdwr = 2, MfdHugeTlb = 4, IpcRmid = 0;

    private readonly AddressSpace _space;
    private readonly string _folder;
    private readonly ulong _path;
    private ulong _next;
    private ulong _seed;

    /// <param name="space">Where.</param>
    /// <param name="folder">For its files; writable there.</param>
    /// <param name="sealing">With memory that can never be unmapped again (mseal).</param>
    public Assortment(AddressSpace space, string folder, bool sealing = false)
    {
        _space = space;
        _folder = folder;
        _path = space.Map(Page);
        const ulong room = 64 * Piece + 16 * Huge;
        ulong reserved = space.Map(room, Prot.None, MapFlags.NoReserve);
        Start = _next = (reserved + 2 * Huge - 1) & ~(Huge - 1);
        PrivateMemory();
        Files();
        SharedMemory();
        if (sealing) Sealed();
        HugePagesOfThePool();
        // what is left around it is not part of it
        End = _next;
        space.Unmap(reserved, Start - reserved);
        space.Unmap(End, reserved + room - End);
        space.Unmap(_path, Page);
    }

    public ulong Start { get; }

    public ulong End { get; }

    public ulong Length => End - Start;

    private void PrivateMemory()
    {
        // a stack comes first: below it there is room to grow
        Anonymous(MapFlags.GrowsDown);
        Anonymous();
        Advised(Madv.HugePage);
        Advised(Madv.NoHugePage);
        Advised(Madv.DontDump);
        Advised(Madv.Mergeable);
        Advised(Madv.DontFork);
        Advised(Madv.WipeOnFork);
        Advised(Madv.Sequential);
        Anonymous(MapFlags.NoReserve);
        // a reservation, with a guard page between data and data behind it
        Take(Piece, Prot.None, MapFlags.NoReserve);
        ulong at = Anonymous();
        _space.Protect(at + 4 * Page, Page, Prot.None);
        at = Anonymous();
        _space.Must(_space.Syscall(Sys.mlock, (long)(at + 2 * Page), (long)(3 * Page)), "mlock");
        at = Anonymous();
        _space.Protect(at, Piece, Prot.Read);
        // under a protection key, where the processor has some
        at = Anonymous();
        long key = _space.Syscall(Sys.pkey_alloc, 0, 0);
        if (key > 0) _space.Must(_space.Syscall(Sys.pkey_mprotect, (long)at, (long)Piece, (long)Prot.ReadWrite, key), "pkey_mprotect");
        // never touched
        Take(Piece, Prot.ReadWrite);
    }

    private void Files()
    {
        Change(Map(File("private"), Piece, MapFlags.Private));
        Map(File("clean"), Piece, MapFlags.Private);
        ulong at = Map(File("relocated"), Piece, MapFlags.Private);
        Change(at);
        // as a loader leaves what it has relocated
        _space.Protect(at, Piece, Prot.Read);
        Map(File("text"), Piece, MapFlags.Private, Prot.Read | Prot.Exec);
        Map(File("shared"), Piece, MapFlags.Shared);
        Map(File("only read", open: 0), Piece, MapFlags.Shared, Prot.Read);
        Change(Map(File("deleted", delete: true), Piece, MapFlags.Private));
        Map(File("deleted too", delete: true), Piece, MapFlags.Shared);
        // from the middle of a file
        at = Map(File("offset"), Piece / 2, MapFlags.Private, Prot.ReadWrite, offset: Piece / 2);
        _space.Write(at, [1, 2, 3]);
        Take(Piece / 2, Prot.ReadWrite);
    }

    private void SharedMemory()
    {
        ulong at = Take(Piece, Prot.ReadWrite, MapFlags.Shared);
        Fill(at, Piece);
        at = Map(Memfd("memfd", 0, Piece), Piece, MapFlags.Shared);
        Fill(at, Piece);
        // as .NET maps the views of a MemoryMappedFile
        at = Map(Memfd("view", 0, Piece), Piece, MapFlags.Shared);
        Fill(at, Piece);
        _space.Must(_space.Advise(at, Piece, Madv.DontFork), "madvise");
        at = Map(Memfd("private view", 0, Piece), Piece, MapFlags.Private);
        Change(at);
        _space.Must(_space.Advise(at, Piece, Madv.DontFork), "madvise");
        Change(Map(Memfd("private memfd", 0, Piece), Piece, MapFlags.Private));
        long segment = _space.Must(_space.Syscall(Sys.shmget, 0, (long)Piece, 0x380), "shmget");
        at = _next;
        _space.Must(_space.Syscall(Sys.shmat, segment, (long)at, 0x4000), "shmat"); // SHM_REMAP
        _space.Must(_space.Syscall(Sys.shmctl, segment, IpcRmid, 0), "shmctl");
        _next += Piece;
        Fill(at, Piece);
        at = Map(File($"/dev/shm/pvmmap-conformance-{Environment.ProcessId}", delete: true, absolute: true), Piece, MapFlags.Shared);
        Fill(at, Piece);
    }

    private void Sealed()
    {
        ulong at = Anonymous();
        long sealing = _space.Syscall(Sys.mseal, (long)at, (long)Piece, 0);
        Machine.RequireSystemCall(sealing, "mseal");
        _space.Must(sealing, "mseal");
    }

    private void HugePagesOfThePool()
    {
        _next = (_next + Huge - 1) & ~(Huge - 1);
        ulong at = Take(2 * Huge, Prot.ReadWrite, MapFlags.HugeTlb);
        Fill(at, Huge + Page);
        at = Take(Huge, Prot.ReadWrite, MapFlags.HugeTlb | MapFlags.Shared);
        Fill(at, 3 * Page);
        at = Map(Memfd("huge", MfdHugeTlb, 2 * Huge), 2 * Huge, MapFlags.Private);
        Fill(at + Huge, Page);
        at = Map(Memfd("shared huge", MfdHugeTlb, Huge), Huge, MapFlags.Shared);
        Fill(at, Page);
    }

    private ulong Anonymous(MapFlags flags = 0)
    {
        ulong at = Take(Piece, Prot.ReadWrite, flags);
        Fill(at, Piece);
        return at;
    }

    private void Advised(Madv advice)
    {
        ulong at = Anonymous();
        long advised = _space.Advise(at, Piece, advice);
        if (advised != -(long)Errno.EINVAL) _space.Must(advised, $"madvise {advice}");
    }

    private ulong Take(ulong length, Prot protection, MapFlags flags = 0)
    {
        ulong at = _space.Map(length, protection, flags | MapFlags.Fixed, _next);
        _next += length;
        return at;
    }

    private ulong Map(long fd, ulong length, MapFlags flags, Prot protection = Prot.ReadWrite, ulong offset = 0)
    {
        ulong at = (ulong)_space.Must(
            _space.Syscall(Sys.mmap, (long)_next, (long)length, (long)protection, (long)(flags | MapFlags.Fixed), fd, (long)offset), "mmap of a file");
        _space.Must(_space.Syscall(Sys.close, fd), "close");
        _next += length;
        return at;
    }

    // a private page overwritten, one overwritten with zeros, one read only
    private void Change(ulong at)
    {
        Fill(at + 3 * Page, 2 * Page);
        _space.Write(at + 7 * Page, new byte[Page]);
        _space.Touch(at + 9 * Page, Page);
    }

    private void Fill(ulong at, ulong length) => _space.Fill(at, length, ++_seed);

    private long File(string name, long open = ORdwr, bool delete = false, bool absolute = false)
    {
        string path = absolute ? name : Path.Combine(_folder, name);
        byte[] content = new byte[Piece];
        for (int i = 0; i < content.Length; i++) content[i] = (byte)((i / 7) + path.Length);
        System.IO.File.WriteAllBytes(path, content);
        System.IO.File.SetUnixFileMode(path, (UnixFileMode)Convert.ToInt32("777", 8));
        Say(path);
        long fd = _space.Must(_space.Syscall(Sys.openat, AtFdCwd, (long)_path, open), $"open {path}");
        if (delete) System.IO.File.Delete(path);
        return fd;
    }

    private long Memfd(string name, long flags, ulong length)
    {
        Say(name);
        long fd = _space.Must(_space.Syscall(Sys.memfd_create, (long)_path, flags), "memfd_create");
        _space.Must(_space.Syscall(77, fd, (long)length), "ftruncate");
        return fd;
    }

    private void Say(string text) => _space.Write(_path, Encoding.UTF8.GetBytes(text + "\0"));
}
