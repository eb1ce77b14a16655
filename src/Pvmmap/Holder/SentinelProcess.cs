using System.Buffers.Binary;
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using Pvmmap.Linux;
using Pvmmap.Procfs;
using Pvmmap.Remote;

namespace Pvmmap.Holder;

/// <summary>
/// The third process of a fill, named pvmmap-sentinel: should holder and guardian both be destroyed, it makes what is missing raise SIGBUS. A child
/// of this process's tracer, and so soon nobody's, with a memory and a program of its own: neither an out-of-memory kill of the source, nor the end
/// of the source's cgroup or pid namespace, ends it.
/// </summary>
internal sealed unsafe class SentinelProcess : IDisposable
{
    private const byte Ready = (byte)'R', Begin = (byte)'B';
    private const int StackBytes = 16 * 1024;
    private const int LowestDescriptor = 16;
    private const int CodeOffset = 0x1000;
    private const ulong LoadAddress = 0x1000_0000;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5), Slice = TimeSpan.FromMilliseconds(20), SpinTime = TimeSpan.FromMicroseconds(50);

    // Made once for the lifetime of this process; close-on-exec.
    private static readonly Lazy<FileDescriptor> Program = new(MakeProgram, LazyThreadSafetyMode.PublicationOnly);

    private static readonly SpareMapping s_stacks = new(StackBytes);

    private readonly TracerProcess tracer;
    private readonly FileDescriptor socket;
    private FileDescriptor? end;
    private ulong memory;
    private bool asked;

    private SentinelProcess(TracerProcess tracer, FileDescriptor socket)
    {
        this.tracer = tracer;
        this.socket = socket;
    }

    /// <summary>Its number, from <see cref="HasStarted"/> on.</summary>
    public int Pid { get; private set; }

    /// <summary>The socket's other end tells it of children, and, closed by all, that nobody serves any more.</summary>
    public FileDescriptor Lifeline => socket;

    /// <summary>Has one started, while the caller goes on.</summary>
    public static SentinelProcess Start(TracerProcess tracer, int targetPid)
    {
        (FileDescriptor here, FileDescriptor there) = UnixSocket.Pair();
        HolderImage image = HolderImage.InThisProcess;
        SentinelProcess sentinel = new(tracer, here);
        try
        {
            using (there)
            {
                sentinel.end = FileDescriptor.From(
                    SystemCall.Invoke(SystemCall.SYS_fcntl, there.Number, FileDescriptor.F_DUPFD_CLOEXEC, LowestDescriptor), "start the sentinel");
            }
            int program = Program.Value.Number;
            sentinel.memory = (ulong)s_stacks.Take().OrThrow("start the sentinel");
            SentinelArguments* arguments = (SentinelArguments*)sentinel.memory;
            *arguments = new SentinelArguments { Syscall = image.SyscallStub, Socket = sentinel.end.Number, Program = program, Without = KernelFeatures.Without, IsHere = 1 };
            Encoding.UTF8.GetBytes($"pvmmap-sentinel (fill of process {targetPid})\0", new Span<byte>(&arguments->Name, sizeof(NameBytes)));
            tracer.Spawn(sentinel.memory + StackBytes, image.SentinelBecome, sentinel.memory);
            return sentinel;
        }
        catch
        {
            sentinel.Free();
            here.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Maps the image's code in this process, over memory that is mapped there, from the file that sentinels are started from: nothing has to be
    /// copied. False where no program can be mapped out of a memfd.
    /// </summary>
    public static bool TryMapCode(ulong at, ulong length)
    {
        if (KernelFeatures.IsWithout(KernelFeature.MemfdExec)) return false;
        SyscallResult mapped = SystemCall.Invoke(
            SystemCall.SYS_mmap, (long)at, (long)length, Memory.PROT_READ | Memory.PROT_EXEC, Memory.MAP_PRIVATE | Memory.MAP_FIXED, Program.Value.Number, CodeOffset);
        if (mapped.Errno is Errno.EPERM or Errno.EACCES) return false;
        mapped.OrThrow("map the holder's code");
        return true;
    }

    /// <summary>Waits until it runs. False with a reason where the kernel runs no program out of a memfd.</summary>
    public bool HasStarted(out string? reason)
    {
        reason = null;
        SyscallResult pid = tracer.AwaitSpawned();
        if (pid.Failed) Free();
        Pid = (int)pid.OrThrow("start the sentinel", hint: "no task can be created: RLIMIT_NPROC or pids.max");
        AwaitOwnMemory();
        SyscallResult error = new(((SentinelArguments*)memory)->Error);
        Free();
        if (!error.Failed) return true;
        reason = $"no sentinel stands behind holder and guardian ({error.Errno}: no program can be run out of a memfd): if both are killed at once, missing pages read as zeros";
        return false;
    }

    // One that was killed before it could say what is to be cleared is a zombie, or gone.
    private void AwaitOwnMemory()
    {
        uint* here = &((SentinelArguments*)memory)->IsHere;
        for (long begin = Stopwatch.GetTimestamp(); Volatile.Read(ref *here) != 0 && Stopwatch.GetElapsedTime(begin) < SpinTime;) Thread.Yield();
        while (Volatile.Read(ref *here) != 0 && ProcessStatus.Find(Pid) is not null) Futex.Wait(here, 1, Slice);
    }

    private void Free()
    {
        end?.Dispose();
        end = null;
        if (memory != 0) s_stacks.Return(memory);
        memory = 0;
    }

    /// <summary>Gives it what it needs; it is in place when <see cref="AwaitReady"/> has returned.</summary>
    public void Watch(FileDescriptor control, FileDescriptor userfaultfd)
    {
        UnixSocket.Send(socket, Begin, control, userfaultfd);
        asked = true;
    }

    /// <summary>False if it is gone.</summary>
    public bool AwaitReady() => !asked || (Poll.Readable(socket, Patience) && UnixSocket.Receive(socket) == Ready);

    public void Dispose()
    {
        socket.Dispose();
        if (memory == 0) return;
        try
        {
            SyscallResult pid = tracer.AwaitSpawned();
            if (!pid.Failed)
            {
                Pid = (int)pid.Value;
                AwaitOwnMemory();
            }
            Free();
        }
        catch (PvmmapException)
        {
            // The tracer is gone: its child may use that memory for a moment still, so that it stays mapped.
            end?.Dispose();
        }
    }

    private static FileDescriptor MakeProgram()
    {
        byte[] file = ToProgram(HolderImage.InThisProcess.Code);
        using FileDescriptor memfd = Memfd.Create("pvmmap-sentinel", 0);
        fixed (byte* bytes = file)
        {
            long written = SystemCall.InvokeUninterrupted(SystemCall.SYS_write, memfd.Number, (long)bytes, file.Length).OrThrow("write the sentinel's program");
            if (written != file.Length) throw new PvmmapException(Errno.ENOMEM, "write the sentinel's program");
        }
        return FileDescriptor.From(
            SystemCall.Invoke(SystemCall.SYS_fcntl, memfd.Number, FileDescriptor.F_DUPFD_CLOEXEC, LowestDescriptor), "keep the sentinel's program");
    }

    /// <summary>The image as an ELF executable: one segment, and a stack that is not executable (elf(5)).</summary>
    internal static byte[] ToProgram(byte[] image)
    {
        ImageHeader header = MemoryMarshal.Read<ImageHeader>(image.AsSpan((int)ImageHeader.Offset));
        byte[] file = new byte[CodeOffset + image.Length];
        image.CopyTo(file, CodeOffset);
        ulong entry = LoadAddress + CodeOffset + header.SentinelStart;
        ReadOnlySpan<byte> identification = [0x7f, (byte)'E', (byte)'L', (byte)'F', 2, 1, 1];
        identification.CopyTo(file);
        Put16(16, 2); // ET_EXEC
        Put16(18, (ushort)header.Machine);
        Put32(20, 1);
        Put64(24, entry);
        Put64(32, 64); // e_phoff
        Put16(52, 64);
        Put16(54, 56);
        Put16(56, 2); // e_phnum
        // PT_LOAD, readable and executable
        Put32(64, 1);
        Put32(68, 5);
        Put64(72, CodeOffset);
        Put64(80, LoadAddress + CodeOffset);
        Put64(88, LoadAddress + CodeOffset);
        Put64(96, (ulong)image.Length);
        Put64(104, (ulong)image.Length);
        Put64(112, PageRange.PageSize);
        // PT_GNU_STACK, readable and writable
        Put32(120, 0x6474e551);
        Put32(124, 6);
        Put64(168, 16);
        return file;

        void Put16(int at, ushort value) => BinaryPrimitives.WriteUInt16LittleEndian(file.AsSpan(at), value);
        void Put32(int at, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(file.AsSpan(at), value);
        void Put64(int at, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(file.AsSpan(at), value);
    }
}
