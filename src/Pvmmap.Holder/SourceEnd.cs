using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Pvmmap.Linux;

namespace Pvmmap.Holder.Freestanding;

/// <summary>
/// A move keeps the source's whole memory alive, the holder being one of its users. When the source has exited, or has begun another program,
/// everything goes but what holders need: this one, and others of the same source.
/// </summary>
internal static unsafe class SourceEnd
{
    private const long KCMP_VM = 1;
    private const uint TurnsBetweenLooks = 64;

    /// <summary>To be called every now and then while the fill goes on.</summary>
    public static void Watch(Service* service, bool idle)
    {
        if (service->Control->Move == 0 || service->SourceReleased || (!idle && ++service->TurnsSinceLook < TurnsBetweenLooks))
            return;
        service->TurnsSinceLook = 0;
        if (HasLeft(service))
            Release(service);
    }

    /// <summary>The source's maps cannot be read when it is gone. The memory is the same.</summary>
    private static long OpenOwnMaps(KernelEntry call)
    {
        Words2 path;
        path.First = 0x7061_6d2f_666c_6573; // "self/map"
        path.Second = 0x73; // "s"
        return call(SystemCalls.openat, HolderFds.Proc, (long)&path, Kernel.O_CLOEXEC, 0, 0, 0);
    }

    private static bool HasLeft(Service* service)
    {
        PollDescriptor source;
        source.File = HolderFds.SourcePidfd;
        source.Events = Kernel.PollIn;
        source.Returned = 0;
        if (!service->SourceExited && Kernel.Poll(service->Call, &source, 1, 0) > 0)
            service->SourceExited = true;
        if (service->SourceExited)
            return true;
        int pid = service->Control->SourceOwnPid;
        // After execve() it is the same process with another memory.
        return pid != 0 && !Shares(service, pid, whenUnknown: true);
    }

    private static bool Shares(Service* service, int pid, bool whenUnknown)
    {
        long self = service->Call(SystemCalls.getpid, 0, 0, 0, 0, 0, 0);
        long order = Compare(service, self, pid);
        return order < 0 ? whenUnknown : order == 0;
    }

    private static long Compare(Service* service, long self, long pid) => (service->Control->Without & KernelFeature.Kcmp) != 0
        ? Kernel.ENOSYS
        : service->Call(SystemCalls.kcmp, self, pid, KCMP_VM, 0, 0, 0);

    private static void Release(Service* service)
    {
        long maps = OpenOwnMaps(service->Call);
        if (maps < 0)
            return;
        Release(service, (int)maps);
        Kernel.Close(service->Call, (int)maps);
    }

    [SkipLocalsInit]
    private static void Release(Service* service, int ownMaps)
    {
        Holders holders;
        if (!FindHolders(service, ownMaps, &holders) || HasStranger(service, &holders))
            return;
        service->SourceReleased = true;
        MapsReader maps;
        MapsReader.Begin(&maps, service->Call, ownMaps);
        while (MapsReader.Next(&maps))
        {
            if (maps.End <= service->Control->AddressSpaceEnd)
                UnmapExcept(service, &holders, maps.Start, maps.End);
        }
    }

    // All control pages that are mapped in this memory, the own one too. False if there are too many to know them all.
    private static bool FindHolders(Service* service, int ownMaps, Holders* holders)
    {
        holders->Count = 0;
        ulong* pages = &holders->First;
        MapsReader maps;
        MapsReader.Begin(&maps, service->Call, ownMaps);
        while (MapsReader.Next(&maps))
        {
            // The place kept for pages is of the same file, but not its beginning.
            if (!maps.IsControl || maps.Offset != 0)
                continue;
            if (holders->Count == Holders.Maximum)
                return false;
            pages[holders->Count] = maps.Start;
            holders->Count++;
        }
        return maps.Error >= 0 && holders->Count > 0;
    }

    // A child by vfork() that has not called execve() yet, for one: it must not lose its memory. It is looked for again later.
    [SkipLocalsInit]
    private static bool HasStranger(Service* service, Holders* holders)
    {
        const long seekSet = 0;
        DirectoryBuffer buffer;
        byte* bytes = &buffer.First;
        // Its numbers may be those of another pid namespace.
        if (service->Control->SourceOwnPid == 0)
            return true;
        // A kernel without kcmp(), or a filter: nobody can be told from a stranger.
        long self = service->Call(SystemCalls.getpid, 0, 0, 0, 0, 0, 0);
        if (Compare(service, self, self) != 0)
            return true;
        if (service->Call(SystemCalls.lseek, HolderFds.Proc, 0, seekSet, 0, 0, 0) < 0)
            return true;
        for (;;)
        {
            long length = service->Call(SystemCalls.getdents64, HolderFds.Proc, (long)bytes, DirectoryBuffer.Bytes, 0, 0, 0);
            if (length <= 0)
                return length < 0;
            for (long at = 0; at < length; at += DirectoryBuffer.RecordLength(bytes + at))
            {
                int pid = DirectoryBuffer.Number(bytes + at);
                if (pid > 0 && !IsHolder(service, holders, pid) && Shares(service, pid, whenUnknown: false))
                    return true;
            }
        }
    }

    private static bool IsHolder(Service* service, Holders* holders, int pid)
    {
        ulong* pages = &holders->First;
        for (uint i = 0; i < holders->Count; i++)
        {
            ControlPage* control = (ControlPage*)pages[i];
            if (control->Move != 0 && (control->HolderOwnPid == pid || control->GuardianPid == pid))
                return true;
        }
        return false;
    }

    private static void UnmapExcept(Service* service, Holders* holders, ulong start, ulong end)
    {
        while (start < end)
        {
            ulong keptStart = end;
            ulong keptEnd = end;
            ulong* pages = &holders->First;
            for (uint i = 0; i < holders->Count; i++)
            {
                ControlPage* control = (ControlPage*)pages[i];
                Inheritance.Keep((ulong)control, ControlPage.Size, start, &keptStart, &keptEnd);
                Inheritance.Keep(control->ImageStart, control->ImageLength, start, &keptStart, &keptEnd);
                Inheritance.Keep(control->ReservedStart, control->ReservedLength, start, &keptStart, &keptEnd);
            }
            if (keptStart > start)
                Kernel.Unmap(service->Call, start, keptStart - start);
            start = keptEnd;
        }
    }

    [StructLayout(LayoutKind.Sequential, Size = 8 + 8 * Maximum)]
    private struct Holders
    {
        public const int Maximum = 64;
        public uint Count;
        public ulong First;
    }
}

/// <summary>Reads /proc/PID/maps of this memory, mapping after mapping.</summary>
[StructLayout(LayoutKind.Sequential, Size = HeaderBytes + BufferBytes)]
internal unsafe struct MapsReader
{
    private const int HeaderBytes = 88;
    private const int BufferBytes = 2048;
    private const ulong ControlName1 = 0x703a64666d656d2f; // "/memfd:p"
    private const ulong ControlName2 = 0x6f632d70616d6d76; // "vmmap-co"

    public ulong Start;
    public ulong End;
    public ulong Offset;
    public long Error;
    private KernelEntry call;
    private long file;
    private ulong name1;
    private ulong name2;
    private long used;
    private long filled;
    private byte buffer;

    public readonly bool IsControl => name1 == ControlName1 && name2 == ControlName2;

    public static void Begin(MapsReader* reader, KernelEntry call, int file)
    {
        const long seekSet = 0;
        reader->call = call;
        reader->file = file;
        reader->used = 0;
        reader->filled = 0;
        reader->Error = call(SystemCalls.lseek, file, 0, seekSet, 0, 0, 0);
    }

    /// <summary>False at the end.</summary>
    public static bool Next(MapsReader* reader)
    {
        // start-end permissions offset device inode name
        const int inField0 = 0;
        const int inField2 = 2;
        const int inName = 5;
        reader->Start = 0;
        reader->End = 0;
        reader->Offset = 0;
        reader->name1 = 0;
        reader->name2 = 0;
        int field = 0;
        int nameLength = 0;
        bool space = false;
        bool end = false;
        for (;;)
        {
            int c = Take(reader);
            if (c < 0)
                return false;
            if (c == '\n')
                return true;
            if (c == ' ' && field < inName)
            {
                space = true;
                continue;
            }
            if (space)
            {
                field++;
                space = false;
            }
            if (field == inField0 && c == '-')
                end = true;
            else if (field == inField0 && end)
                reader->End = (reader->End << 4) | Digit(c);
            else if (field == inField0)
                reader->Start = (reader->Start << 4) | Digit(c);
            else if (field == inField2)
                reader->Offset = (reader->Offset << 4) | Digit(c);
            else if (field == inName && nameLength < 16)
            {
                if (nameLength < 8)
                    reader->name1 |= (ulong)c << (8 * nameLength);
                else
                    reader->name2 |= (ulong)c << (8 * (nameLength - 8));
                nameLength++;
            }
        }
    }

    private static ulong Digit(int c) => c <= '9' ? (ulong)(c - '0') : (ulong)(c - 'a' + 10);

    private static int Take(MapsReader* reader)
    {
        byte* bytes = &reader->buffer;
        if (reader->used == reader->filled)
        {
            reader->used = 0;
            reader->filled = Kernel.Read(reader->call, (int)reader->file, bytes, BufferBytes);
            if (reader->filled <= 0)
            {
                reader->Error = reader->filled;
                reader->filled = 0;
                return -1;
            }
        }
        return bytes[reader->used++];
    }
}
