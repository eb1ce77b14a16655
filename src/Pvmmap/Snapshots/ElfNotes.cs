using System.Buffers;
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using Pvmmap.Linux;

namespace Pvmmap.Snapshots;

/// <summary>
/// The notes of a core file: registers, signals, the process, its files. In the order of fs/binfmt_elf.c, with the siginfo of every thread as gdb has it.
/// </summary>
internal static class ElfNotes
{
    private const int SignalInformationBytes = 128; // sizeof(siginfo_t)

    public static byte[] Write(ICoreSource source)
    {
        var notes = new ArrayBufferWriter<byte>(64 * 1024);
        SnapshotIdentity identity = source.Identity;
        SnapshotThread? first = source.Threads.Count == 0 ? null : source.Threads[0];
        if (first is not null) Add(notes, "CORE", Elf.NT_PRSTATUS, Status(identity, first));
        Add(notes, "CORE", Elf.NT_PRPSINFO, Information(identity));
        if (first is not null) Add(notes, "CORE", Elf.NT_SIGINFO, SignalInformation(first));
        Add(notes, "CORE", Elf.NT_AUXV, source.AuxiliaryVector.Span);
        Add(notes, "CORE", Elf.NT_FILE, Files(source.Ranges));
        foreach (SnapshotThread thread in source.Threads)
        {
            if (thread != first) Add(notes, "CORE", Elf.NT_PRSTATUS, Status(identity, thread));
            if (!thread.FloatingPointRegisters.IsEmpty) Add(notes, "CORE", Elf.NT_PRFPREG, thread.FloatingPointRegisters.Span);
            if (!thread.ExtendedState.IsEmpty) Add(notes, "LINUX", Ptrace.NT_X86_XSTATE, ExtendedStateLayout.AsInIntels(thread.ExtendedState.Span));
            if (thread != first) Add(notes, "CORE", Elf.NT_SIGINFO, SignalInformation(thread));
        }
        return notes.WrittenSpan.ToArray();
    }

    private static void Add(ArrayBufferWriter<byte> notes, string name, uint type, ReadOnlySpan<byte> content)
    {
        Append(notes, new Elf.NoteHeader { NameBytes = (uint)name.Length + 1, ContentBytes = (uint)content.Length, Type = type });
        notes.Write(Encoding.ASCII.GetBytes(name + "\0"));
        Pad(notes);
        notes.Write(content);
        Pad(notes);
    }

    private static byte[] Status(SnapshotIdentity identity, SnapshotThread thread)
    {
        ReadOnlySpan<byte> signal = SignalInformation(thread);
        int number = BinaryPrimitives.ReadInt32LittleEndian(signal);
        var status = new ArrayBufferWriter<byte>();
        Append(status, new Elf.ThreadStatus
        {
            SignalNumber = number,
            SignalError = BinaryPrimitives.ReadInt32LittleEndian(signal[4..]),
            SignalCode = BinaryPrimitives.ReadInt32LittleEndian(signal[8..]),
            CurrentSignal = (short)number,
            PendingSignals = thread.PendingSignals,
            BlockedSignals = thread.BlockedSignals,
            ThreadId = thread.ThreadId,
            ParentId = identity.ParentId,
            GroupId = identity.GroupId,
            SessionId = identity.SessionId,
            UserTime = Time(thread.UserTime),
            SystemTime = Time(thread.SystemTime),
            ChildrenUserTime = Time(identity.ChildrenUserTime),
            ChildrenSystemTime = Time(identity.ChildrenSystemTime),
        });
        status.Write(thread.GeneralRegisters.Span);
        Append(status, thread.FloatingPointRegisters.IsEmpty ? 0L : 1L); // the int pr_fpvalid, and what aligns the structure
        return status.WrittenSpan.ToArray();
    }

    private static byte[] Information(SnapshotIdentity identity)
    {
        // The kernel's names of the states: their numbers are the places.
        const string states = "RSDTZW";
        char state = char.ToUpperInvariant(identity.State); // t: stopped by a debugger
        var information = new Elf.ProcessInformation
        {
            State = (byte)Math.Max(states.IndexOf(state, StringComparison.Ordinal), 0),
            StateLetter = (byte)state,
            Zombie = (byte)(state == 'Z' ? 1 : 0),
            Nice = (sbyte)identity.Nice,
            Flags = identity.Flags,
            UserId = identity.UserId,
            UserGroupId = identity.UserGroupId,
            ProcessId = identity.ProcessId,
            ParentId = identity.ParentId,
            GroupId = identity.GroupId,
            SessionId = identity.SessionId,
        };
        information.SetName(Encoding.UTF8.GetBytes(identity.Name));
        information.SetArguments(Encoding.UTF8.GetBytes(string.Join(' ', identity.CommandLine)));
        return MemoryMarshal.AsBytes(new ReadOnlySpan<Elf.ProcessInformation>(in information)).ToArray();
    }

    /// <summary>NT_FILE: count, page size, then start, end and offset in pages of each mapping, then the names.</summary>
    private static byte[] Files(IReadOnlyList<SnapshotRange> ranges)
    {
        var places = new ArrayBufferWriter<byte>();
        var names = new ArrayBufferWriter<byte>();
        long count = 0;
        foreach (SnapshotRange range in ranges)
        {
            if (!range.IsFileBacked) continue;
            count++;
            Append(places, range.Range.Start);
            Append(places, range.Range.End);
            Append(places, range.Offset / PageRange.PageSize);
            // Named shared memory has its name instead of the file's.
            string name = range.Name.StartsWith("[anon_shmem:", StringComparison.Ordinal) ? "/dev/zero (deleted)" : range.Name;
            names.Write(Encoding.UTF8.GetBytes(name + "\0"));
        }
        var files = new ArrayBufferWriter<byte>();
        Append(files, count);
        Append(files, PageRange.PageSize);
        files.Write(places.WrittenSpan);
        files.Write(names.WrittenSpan);
        return files.WrittenSpan.ToArray();
    }

    private static ReadOnlySpan<byte> SignalInformation(SnapshotThread thread) =>
        thread.SignalInformation.IsEmpty ? new byte[SignalInformationBytes] : thread.SignalInformation.Span;

    private static Elf.TimeValue Time(TimeSpan time) =>
        new() { Seconds = time.Ticks / TimeSpan.TicksPerSecond, Microseconds = time.Ticks % TimeSpan.TicksPerSecond / TimeSpan.TicksPerMicrosecond };

    private static void Append<T>(ArrayBufferWriter<byte> to, T value)
        where T : unmanaged => to.Write(MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in value)));

    private static void Pad(ArrayBufferWriter<byte> notes)
    {
        int over = notes.WrittenCount % 4;
        if (over != 0) notes.Write(new byte[4 - over]);
    }
}
