using System.Globalization;
using System.Net.Sockets;
using Microsoft.Win32.SafeHandles;
using Pvmmap;
using Pvmmap.ConformanceTests.Stage;
using Pvmmap.Holder;
using Pvmmap.Linux;
using Pvmmap.Snapshots;
using StepCaller;

// Makes one call and stops at one of its steps. Says, a line each:
//   hello PID        ready, with its own mappings made
//   control FD       the control page, open here; the holder stops at FILLSTEP
//   at STEP HOLDER   stopped, until it hears "go"; the number of the holder if it is known, else 0
//   done ADDRESS ERRNO MESSAGE
//   child PID        of "fork"
//   acted            what it was told to do as the target is done
// Hears "call", "capture" (of SOURCE, whose range at ADDRESS it then reads), "go", and while it is the target: "touch ADDRESS", "remap FROM LENGTH TO", "drop ADDRESS LENGTH", "unmap ADDRESS LENGTH", "fork".
if (args.Length != 10)
{
    Console.Error.WriteLine(Arguments.Usage);
    return 2;
}
Arguments wanted = Arguments.Parse(args);
using Socket? socket = wanted.Door == "-" ? null : new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
socket?.Connect(new UnixDomainSocketEndPoint(wanted.Door));
using Stream? stream = socket is null ? null : new NetworkStream(socket);
using TextReader hears = stream is null ? Console.In : new StreamReader(stream);
using TextWriter says = stream is null ? Console.Out : new StreamWriter(stream) { AutoFlush = true, NewLine = "\n" };
using var go = new SemaphoreSlim(0);
int[] stopped = new int[wanted.StopAt.Length];
int armed = 0, latestHolder = 0;

PrepareOwnMemory();
Step.Listener = (step, holder) => StopAt(step.ToString(), holder);
Step.SnapshotListener = (step, keeper) => StopAt(step.ToString(), keeper);
Step.ControlListener = control =>
{
    // Open for as long as this process lives: the library closes its own.
    long copy = SystemCall.Invoke(SystemCall.SYS_fcntl, control.Number, FileDescriptor.F_DUPFD_CLOEXEC, 0).OrThrow("keep the control page");
    using var file = new SafeFileHandle((nint)copy, ownsHandle: false);
    // The first holder only, should the call try again with another.
    if (Interlocked.Exchange(ref armed, 1) == 0) RandomAccess.Write(file, BitConverter.GetBytes(wanted.FillStopAt), StopAtOffset());
    Say($"control {copy}");
};
Say($"hello {Environment.ProcessId}");
while (hears.ReadLine() is { } line)
{
    string[] words = line.Split(' ');
    if (words[0] == "go") go.Release();
    else new Thread(() => Act(words[0], [.. words.Skip(1).Select(Arguments.Number)])) { IsBackground = true }.Start();
}
return 0;

void StopAt(string step, int holder)
{
    if (holder != 0) latestHolder = holder;
    int at = Array.IndexOf(wanted.StopAt, step);
    if (at < 0 || Interlocked.Exchange(ref stopped[at], 1) != 0) return;
    Say($"at {step} {latestHolder}");
    go.Wait();
}

void Say(FormattableString line)
{
    lock (go) says.WriteLine(line.ToString(CultureInfo.InvariantCulture));
}

unsafe long StopAtOffset()
{
    ControlPage page;
    return (byte*)&page.StopAt - (byte*)&page;
}

void PrepareOwnMemory()
{
    const int writable = Memory.PROT_READ | Memory.PROT_WRITE, kind = Memory.MAP_PRIVATE | Memory.MAP_ANONYMOUS | Memory.MAP_FIXED_NOREPLACE;
    if (wanted.Source == 0)
    {
        Memory.Map(wanted.Address, wanted.Length, writable, kind).OrThrow("map the source range");
        Pattern.Fill(wanted.Address, wanted.Length, Content.SourceSeed, 0, 1);
        // Every second piece is read-only.
        ulong piece = wanted.Pages / wanted.Pieces * 4096;
        for (ulong i = 1; i < wanted.Pieces; i += 2) Memory.Protect(wanted.Address + i * piece, piece, Memory.PROT_READ).OrThrow("protect a piece");
    }
    if (wanted.Target == 0 && wanted.Flags.HasFlag(MmapFlags.Fixed))
    {
        Memory.Map(wanted.Destination, wanted.Length, writable, kind).OrThrow("map the destination");
        Pattern.Fill(wanted.Destination, wanted.Length, Content.TargetSeed, 0, 1);
    }
}

unsafe void Act(string command, ulong[] n)
{
    switch (command)
    {
        case "call":
            Call();
            return;
        case "capture":
            Capture();
            return;
        case "touch":
            // As a system call of its own would: an error, where this program would end by SIGBUS.
            Memory.ReadFrom(Environment.ProcessId, n[0], stackalloc byte[8]);
            break;
        case "remap":
            SystemCall.Invoke(SystemCall.SYS_mremap, (long)n[0], (long)n[1], (long)n[1], Memory.MREMAP_MAYMOVE | Memory.MREMAP_FIXED, (long)n[2]);
            break;
        case "drop":
            SystemCall.Invoke(SystemCall.SYS_madvise, (long)n[0], (long)n[1], Memory.MADV_DONTNEED);
            break;
        case "unmap":
            SystemCall.Invoke(SystemCall.SYS_munmap, (long)n[0], (long)n[1]);
            break;
        case "fork":
            Say($"child {Fork.AndRest()}");
            break;
        default:
            Say($"err {command}");
            return;
    }
    Say($"acted");
}

void Call()
{
    try
    {
        int self = Environment.ProcessId, source = wanted.Source == 0 ? self : wanted.Source, target = wanted.Target == 0 ? self : wanted.Target;
        MmapResult result = ProcessVm.MmapBetween(source, target, wanted.Address, wanted.Length, wanted.Destination, wanted.Flags);
        Step.Reached(CallStep.Returned);
        Say($"done 0x{result.Address:x} 0 -");
    }
    catch (PvmmapException e)
    {
        Say($"done 0 {(int)e.Errno} {e.Message.ReplaceLineEndings(" ")}");
    }
}

unsafe void Capture()
{
    try
    {
        using ProcessSnapshot snapshot = ProcessSnapshot.Capture(wanted.Source);
        Step.Reached(CallStep.Returned, snapshot.KeeperPid);
        byte[] range = new byte[wanted.Length];
        snapshot.Read(wanted.Address, range);
        fixed (byte* here = range)
        {
            Census seen = Pattern.Examine((ulong)here, wanted.Length, Content.SourceSeed, 0, 1);
            if (seen.Good != wanted.Pages) Say($"done 0 -1 the snapshot has {seen}");
            else Say($"done 0x{wanted.Address:x} 0 -");
        }
    }
    catch (PvmmapException e)
    {
        Say($"done 0 {(int)e.Errno} {e.Message.ReplaceLineEndings(" ")}");
    }
}
