using System.Globalization;
using System.Text;
using Pvmmap.Linux;
using Pvmmap.Procfs;
using Pvmmap.Remote;
using Pvmmap.Target;

namespace Pvmmap;

/// <summary>
/// What a call between two given processes will come to, found out without touching them: nothing is stopped, nothing runs in them. It is as good as
/// the instant at which it was made, and says nothing about the range: what is mapped there, and whether there is room for it.
/// </summary>
public sealed class Prognosis
{
    // A process may have one mapping more than the limit says (mmap(2) of Linux): the pages that our calls run on find room in one that has just as many, the region behind them in one that has one less.
    private const int MappingsForCalls = 0, MappingsForCallsAndRegion = 1;

    private const int MappingsOfTheCall = 1;

    private readonly List<PairCheck> checks = [];
    private readonly ProcessStatus caller;
    private readonly ProcessPlace callerPlace;

    private Prognosis(int sourcePid, int targetPid)
    {
        SourcePid = sourcePid;
        TargetPid = targetPid;
        caller = ProcessStatus.Read(Environment.ProcessId);
        callerPlace = ProcessPlace.Read(Environment.ProcessId);
    }

    /// <summary>The process to take from.</summary>
    public int SourcePid { get; }

    /// <summary>The process to map into.</summary>
    public int TargetPid { get; }

    /// <summary>What it will come to.</summary>
    public Outlook Outlook { get; private set; }

    /// <summary>The errno with which it will fail; <see cref="Errno.None"/> if it works.</summary>
    public Errno Errno { get; private set; }

    /// <summary>Why it is no better; null if nothing is in the way.</summary>
    public string? Reason { get; private set; }

    /// <summary>What to do about it; null if nothing is in the way, or can be done.</summary>
    public string? Cure { get; private set; }

    /// <summary>Everything that was looked at, in the order in which the call would meet it.</summary>
    public IReadOnlyList<PairCheck> Checks => checks;

    /// <summary>Looks at both, as this process would if it made the call.</summary>
    /// <param name="sourcePid">The process to take from; may be the caller.</param>
    /// <param name="targetPid">The process to map into; may be the caller.</param>
    /// <exception cref="PvmmapException">ENOSYS: there is no /proc to look at them with, or it is that of another pid namespace.</exception>
    public static Prognosis Of(int sourcePid, int targetPid)
    {
        Participant.CheckProc(Environment.ProcessId, "caller");
        Prognosis prognosis = new(sourcePid, targetPid);
        prognosis.Look();
        return prognosis;
    }

    private bool IsPrivileged(int capability) => Has(caller, capability) && callerPlace.IsInInitialUserNamespace;

    private static bool Has(ProcessStatus status, int capability) => (status.CapEff & 1UL << capability) != 0;

    private static bool IsCaller(Participant participant) => participant.Pid == Environment.ProcessId;

    // In the order of the call, so that the first error found is the one that it will fail with.
    private void Look()
    {
        Backend? backend = FindBackend();
        if (backend == Backend.Kernel)
        {
            LookAtKernelsCall();
            return;
        }
        using Participant? from = Find(SourcePid, "source"), other = IsWithinOne ? null : Find(TargetPid, "target");
        bool fromIsOpen = from is not null && MayTrace(from, every: true), otherIsOpen = other is not null && MayTrace(other, every: other.MayHaveSigchld);
        LookAtMachine();
        foreach ((Participant? participant, bool isOpen) in (ReadOnlySpan<(Participant?, bool)>)[(from, fromIsOpen), (other, otherIsOpen)])
        {
            if (participant is null) continue;
            if (isOpen) LookAtProgram(participant);
            LookAtSeccomp(participant);
            if (isOpen) LookAtRoom(participant, participant.Pid == TargetPid && !IsCaller(participant) ? MappingsForCallsAndRegion : MappingsForCalls, Trampoline.Length + PageRange.PageSize);
        }
        if ((IsWithinOne ? from : other) is { } to) LookAtUserfaultfd(to);
        LookAtObjects();
        if (from is not null) LookAtPlace(from);
        if (other is not null) LookAtPlace(other);
    }

    // Null: neither will make it.
    private Backend? FindBackend()
    {
        try
        {
            return Backends.Of(SourcePid, TargetPid);
        }
        catch (PvmmapException e) when (e.Errno == Errno.ENOSYS)
        {
            Refuse("backend", 0, e);
            return null;
        }
    }

    // It asks for the right to ptrace the other process, and for room in the target. Nobody is stopped and nothing runs in anybody.
    private void LookAtKernelsCall()
    {
        Outlook = Outlook.Shared;
        checks.Add(new PairCheck("backend", 0, Outlook.Shared, Backends.Choice == BackendChoice.Kernel
            ? "the kernel's process_vm_mmap()" : "the kernel's process_vm_mmap(); what it does not take in the range is taken in user space"));
        using Participant? from = Find(SourcePid, "source"), other = IsWithinOne ? null : Find(TargetPid, "target");
        foreach (Participant? participant in (ReadOnlySpan<Participant?>)[from, other])
        {
            if (participant is null) continue;
            bool isOpen = MayAccess(participant);
            if (isOpen && participant.Pid == TargetPid) LookAtRoom(participant, MappingsOfTheCall, PageRange.PageSize);
            LookAtPlace(participant);
        }
    }

    private bool MayAccess(Participant participant)
    {
        const string name = "ptrace";
        if (IsCaller(participant)) return true;
        try
        {
            participant.CheckPermission();
        }
        catch (PvmmapException e)
        {
            Refuse(name, participant.Pid, e);
            return false;
        }
        Add(name, participant.Pid, "the caller may, and nobody else does");
        return true;
    }

    private bool IsWithinOne => SourcePid == TargetPid;

    private Participant? Find(int pid, string role)
    {
        try
        {
            Participant participant = Participant.Open(pid, role);
            Add("process", pid, $"{participant.Status.Name}, {(IsCaller(participant) ? "the caller" : $"user {participant.Status.EffectiveUid}")}, threads: {participant.Status.Threads}");
            return participant;
        }
        catch (PvmmapException e)
        {
            Refuse("process", pid, e);
            return null;
        }
    }

    private bool MayTrace(Participant participant, bool every)
    {
        const string name = "ptrace";
        if (IsCaller(participant)) return true;
        int? scope = Yama.Scope;
        string yama = scope is null ? "Yama is not active" : string.Create(CultureInfo.InvariantCulture, $"kernel.yama.ptrace_scope is {scope}");
        try
        {
            participant.CheckPermission();
            participant.CheckThreads(every);
            // Once more by a process as the call will start it: it is nobody's ancestor, which is all the difference to its parent.
            using TracerProcess tracer = new();
            if (PtraceAccess.IsRefused(tracer, participant.Pidfd))
            {
                throw new PvmmapException(Errno.EPERM, name, participant.Pid,
                    hint: $"the caller may ptrace it as its ancestor, but not the tracer that the call starts ({yama}); {Yama.Cure(scope ?? Yama.Relational)}");
            }
            // A source's fork, the holder, has named nobody, whoever its parent has named.
            if (participant.Pid == SourcePid && !Yama.Allows(scope, TracerRelation.Stranger, PtraceAccess.Read(SourcePid).IsCapable))
                throw new PvmmapException(Errno.EPERM, name, participant.Pid, hint: $"the caller may ptrace the source, but not its fork ({yama}); {Yama.Cure(scope!.Value)}");
        }
        catch (PvmmapException e)
        {
            Refuse(name, participant.Pid, e);
            return false;
        }
        Add(name, participant.Pid, $"the caller may, and nobody else does; {yama}");
        return true;
    }

    private void LookAtMachine()
    {
        List<Capability> missing = [.. Capabilities.Probe().Where(found => found is { Required: true, Present: false })];
        if (missing.Count == 0)
        {
            Add("kernel", 0, "everything is there that each call needs; pvmmap doctor without a pid lists it");
            if (Capabilities.ReadNumber("/proc/sys/vm/overcommit_memory") == 2) LookAtCommitment();
            return;
        }
        foreach (Capability capability in missing)
            Refuse("kernel", 0, capability.Detail.Contains(nameof(Errno.EPERM), StringComparison.Ordinal) ? Errno.EPERM : Errno.ENOSYS, $"{capability.Name}: {capability.Detail}", capability.Cure);
    }

    private void LookAtCommitment()
    {
        Dictionary<string, ulong> memory = [];
        ReadOnlySpan<byte> text = Encoding.UTF8.GetBytes(Files.TryReadText("/proc/meminfo") ?? "");
        while (ProcText.NextLine(ref text, out ReadOnlySpan<byte> lineText))
        {
            ProcText line = new(lineText);
            string field = Encoding.UTF8.GetString(line.Name());
            if (field is "CommitLimit" or "Committed_AS") memory[field] = line.Kilobytes();
        }
        if (memory.Count < 2) return;
        ulong limit = memory["CommitLimit"], used = memory["Committed_AS"];
        Add("memory", 0, string.Create(CultureInfo.InvariantCulture,
            $"vm.overcommit_memory is 2: there is room for {(limit > used ? (limit - used) >> 20 : 0)} MiB, and a copy counts twice until its fill is done, else ENOMEM"));
    }

    private void LookAtProgram(Participant participant)
    {
        const string name = "program";
        if (IsCaller(participant)) return;
        try
        {
            if (AuxiliaryVector.IsOf64Bits(participant.Pid) != false) Add(name, participant.Pid, "64 bits");
            else Refuse(name, participant.Pid, new PvmmapException(Errno.ENOSYS, name, hint: StoppedProcess.Is32Bit));
        }
        catch (PvmmapException e)
        {
            Refuse(name, participant.Pid, e);
        }
    }

    private void LookAtSeccomp(Participant participant)
    {
        const string name = "seccomp";
        if (!participant.IsUnderSeccomp)
        {
            Add(name, participant.Pid, "none");
            return;
        }
        if (!IsCaller(participant) && (!IsPrivileged(Capabilities.CAP_SYS_ADMIN) || caller.Seccomp != 0))
        {
            Refuse(name, participant.Pid, Errno.EPERM, StoppedProcess.MayNotSuspendSeccomp,
                "call from outside of the container as root, or run the process without a filter (docker run --security-opt seccomp=unconfined)");
        }
        else if (participant.Pid == SourcePid)
        {
            Reduce(name, participant.Pid, Participant.FilteredSource, "take from a process without a filter (docker run --security-opt seccomp=unconfined)");
        }
        else
        {
            Add(name, participant.Pid, "a filter, which is suspended while the call runs in it");
        }
    }

    /// <param name="participant">Whose.</param>
    /// <param name="needed">VMAs that the call needs at least.</param>
    /// <param name="bytes">Bytes of address space that it needs at least.</param>
    private void LookAtRoom(Participant participant, int needed, ulong bytes)
    {
        const string name = "room";
        try
        {
            int mappings = Maps.Read(participant.Pid).Count(vma => vma.Range.Start < Processor.AddressSpaceEnd);
            int most = Capabilities.ReadNumber("/proc/sys/vm/max_map_count") ?? int.MaxValue;
            ulong pages = ProcFile.Parse(participant.Pid, "statm", text => new ProcText(text).Decimal());
            ulong limit = ProcFile.Parse(participant.Pid, "limits", ParseAddressSpaceLimit);
            ulong used = pages * PageRange.PageSize, left = limit > used ? limit - used : 0;
            bool full = mappings + needed > most;
            string text = string.Create(CultureInfo.InvariantCulture,
                $"{mappings} of {most} mappings, RLIMIT_AS: {(limit == ulong.MaxValue ? "unlimited" : $"{left >> 10} KiB left")}");
            if (full) Refuse(name, participant.Pid, Errno.ENOMEM, text, "raise vm.max_map_count");
            else if (left < bytes) Refuse(name, participant.Pid, Errno.ENOMEM, text, "raise its RLIMIT_AS (prlimit --as)");
            else Add(name, participant.Pid, text);
        }
        catch (PvmmapException e)
        {
            Refuse(name, participant.Pid, e);
        }
    }

    /// <summary>The soft limit in "Max address space   unlimited   unlimited   bytes".</summary>
    internal static ulong ParseAddressSpaceLimit(ReadOnlySpan<byte> text)
    {
        while (ProcText.NextLine(ref text, out ReadOnlySpan<byte> line))
        {
            if (!line.StartsWith("Max address space"u8)) continue;
            ProcText rest = new(line["Max address space".Length..]);
            ReadOnlySpan<byte> soft = rest.Word();
            return soft.SequenceEqual("unlimited"u8) ? ulong.MaxValue : new ProcText(soft).Decimal();
        }
        throw new FormatException("/proc/PID/limits has no Max address space");
    }

    private void LookAtUserfaultfd(Participant to)
    {
        string? restriction;
        if (IsCaller(to))
        {
            using OwnProcess own = new();
            using TargetUserfaultfd? userfaultfd = TargetUserfaultfd.Create(own, out restriction);
            restriction = userfaultfd is null ? restriction : userfaultfd.Restriction;
        }
        else
        {
            using FileDescriptor? device = Userfaultfd.TryOpenDevice();
            restriction = TargetUserfaultfd.Foresee(
                IsPrivileged(PtraceAccess.CAP_SYS_PTRACE),
                Has(to.Status, PtraceAccess.CAP_SYS_PTRACE) && ProcessPlace.Read(to.Pid).IsInInitialUserNamespace,
                Capabilities.ReadNumber("/proc/sys/vm/unprivileged_userfaultfd") == 1,
                device is not null);
        }
        if (restriction is null) Add("userfaultfd", to.Pid, "the target can have one, and gets its pages as it touches them");
        else Reduce("userfaultfd", to.Pid, restriction, "run as root, or with CAP_SYS_PTRACE in the first user namespace");
    }

    // Of no consequence for private anonymous memory: the outlook is not touched.
    private void LookAtObjects()
    {
        bool may = IsPrivileged(Capabilities.CAP_SYS_ADMIN) || IsPrivileged(Capabilities.CAP_CHECKPOINT_RESTORE);
        checks.Add(may ? new("files", SourcePid, Outlook.FilledLazily, "files and shared memory in the range are opened through /proc/PID/map_files")
            : new("files", SourcePid, Outlook.FilledLazily,
                "files and shared memory in the range must be open in the source, or have a path that the caller may open, else EPERM; of no consequence for anonymous memory",
                "give the caller CAP_CHECKPOINT_RESTORE"));
    }

    private void LookAtPlace(Participant participant)
    {
        if (IsCaller(participant)) return;
        ProcessPlace place = ProcessPlace.Read(participant.Pid);
        if (place.Mount is null)
        {
            Add("place", participant.Pid, "its namespaces cannot be seen by the caller");
            return;
        }
        List<string> found = [];
        if (place.User != callerPlace.User) found.Add("in another user namespace, where the caller's rights hold");
        if (place.Pid != callerPlace.Pid)
        {
            string number = participant.Status.NSpid is [.., var inner] ? string.Create(CultureInfo.InvariantCulture, $" (it is {inner} there)") : "";
            found.Add(participant.Pid == SourcePid
                ? $"in another pid namespace{number}: holder and guardian live there, and if it ends before the fill is done, what is missing raises SIGBUS"
                : $"in another pid namespace{number}");
        }
        if (place.Mount != callerPlace.Mount) found.Add("in another mount namespace");
        if (place.Root is { } root && root != "/") found.Add($"its root is {root}");
        Add("place", participant.Pid, found.Count == 0 ? "the namespaces and the root of the caller" : string.Join("; ", found));
    }

    private void Add(string name, int pid, string detail) =>
        checks.Add(new PairCheck(name, pid, Outlook == Outlook.Shared ? Outlook.Shared : Outlook.FilledLazily, detail));

    private void Reduce(string name, int pid, string reason, string cure)
    {
        checks.Add(new PairCheck(name, pid, Outlook.CopiedInTheCall, reason, cure));
        if (Outlook != Outlook.FilledLazily) return;
        (Outlook, Reason, Cure) = (Outlook.CopiedInTheCall, reason, cure);
    }

    // A hint of ours says why, and behind the semicolon what to do.
    private void Refuse(string name, int pid, PvmmapException error)
    {
        string hint = error.Hint ?? error.Message;
        int end = hint.IndexOf("; ", StringComparison.Ordinal);
        if (end < 0) Refuse(name, pid, error.Errno, hint, error.Errno == Errno.ESRCH ? "look for it with ps" : null);
        else Refuse(name, pid, error.Errno, hint[..end], hint[(end + 2)..]);
    }

    private void Refuse(string name, int pid, Errno errno, string reason, string? cure)
    {
        checks.Add(new PairCheck(name, pid, Outlook.Refused, $"{errno}: {reason}", cure));
        if (Outlook == Outlook.Refused) return;
        (Outlook, Errno, Reason, Cure) = (Outlook.Refused, errno, reason, cure);
    }
}
