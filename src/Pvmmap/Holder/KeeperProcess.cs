using System.Globalization;
using Pvmmap.Linux;
using Pvmmap.Remote;

namespace Pvmmap.Holder;

/// <summary>
/// The process that keeps a snapshot's memory. It ends when this object is disposed, or when this process dies (its socket is closed, or the tracer that
/// still holds it is gone), unless it has been told to stay.
/// </summary>
internal sealed class KeeperProcess : IDisposable
{
    /// <summary>Its name, as long as one can be.</summary>
    public const string Name = "pvmmap-snapshot";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly FileDescriptor pidfd;
    private FileDescriptor? socket;
    private bool stays;

    private KeeperProcess(int pid, FileDescriptor pidfd, FileDescriptor? socket)
    {
        Pid = pid;
        this.pidfd = pidfd;
        this.socket = socket;
    }

    public int Pid { get; }

    /// <summary>True if it has ended: the memory is gone.</summary>
    public bool HasEnded => Pidfd.HasEnded(pidfd);

    /// <summary>False if it stands still under a tracer, and so goes with it.</summary>
    public bool MayStay => socket is not null || stays;

    /// <summary>One that is there already, and stays.</summary>
    public static KeeperProcess Open(int pid) => new(pid, Linux.Pidfd.Open(pid), null) { stays = true };

    /// <summary>Turns a child that a process was made to fork into a keeper.</summary>
    /// <param name="child">The child, stopped under the tracer.</param>
    /// <param name="description">What it unmaps, and what else is known.</param>
    /// <param name="mapped">Bytes of it that the keeper has to see.</param>
    /// <param name="frozen">Leave it under the tracer, for good.</param>
    public static KeeperProcess Start(RemoteThread child, FileDescriptor description, ulong mapped, bool frozen)
    {
        FileDescriptor pidfd = Linux.Pidfd.Open(child.Tid);
        FileDescriptor? socket = null;
        try
        {
            if (!frozen)
            {
                HolderLoader.BeginSettling(child, kept: null);
                socket = HolderLoader.Load(child, pidfd, new HolderTask(default, KeptBytes: mapped));
                Begin(socket, pidfd, child.Tid, description);
            }
            else
            {
                LetGo(child);
            }
            return new KeeperProcess(child.Tid, pidfd, socket);
        }
        catch
        {
            Linux.Pidfd.Kill(pidfd);
            socket?.Dispose();
            pidfd.Dispose();
            throw;
        }
    }

    // One that runs does this by itself: nobody waits for the end of a pipe because of it, and no signal to the process's group is for it.
    private static void LetGo(RemoteThread child)
    {
        child.Invoke(SystemCall.SYS_setsid);
        if (!KernelFeatures.IsWithout(KernelFeature.CloseRange) && !child.Invoke(SystemCall.SYS_close_range, 0, uint.MaxValue).Failed) return;
        foreach (string path in Directory.GetFileSystemEntries(string.Create(CultureInfo.InvariantCulture, $"/proc/{child.Tid}/fd")))
            child.Invoke(SystemCall.SYS_close, int.Parse(Path.GetFileName(path.AsSpan()), CultureInfo.InvariantCulture));
    }

    /// <summary>Forks this process; the child is the keeper. No managed code runs in it.</summary>
    /// <param name="tracer">Whose child it is at first.</param>
    /// <param name="describe">Told the keeper's pid, makes the description: where it is, and the bytes of it that the keeper has to see, which must be those.</param>
    /// <param name="mapped">Bytes of it that the keeper maps.</param>
    public static KeeperProcess ForkThisProcess(TracerProcess tracer, Func<int, PageRange, FileDescriptor> describe, ulong mapped)
    {
        PageRange image = HolderLoader.MapHere();
        FileDescriptor? pidfd = null;
        (FileDescriptor here, FileDescriptor there) = UnixSocket.Pair();
        try
        {
            HolderLoader.PrepareHere(image, new HolderTask(default, KeptBytes: mapped), there.Number, out ulong top);
            int pid = (int)tracer.Fork(shareMemory: false, top, HolderImage.InThisProcess.At(image.Start).Boot, top)
                .OrThrow("fork the snapshot's keeper", hint: "no task or no memory: RLIMIT_NPROC, pids.max, overcommit");
            pidfd = Linux.Pidfd.Open(pid);
            there.Dispose();
            using FileDescriptor description = describe(pid, image);
            Begin(here, pidfd, pid, description);
            return new KeeperProcess(pid, pidfd, here);
        }
        catch
        {
            // The keeper, if there is one, sees its socket close and ends.
            there.Dispose();
            here.Dispose();
            pidfd?.Dispose();
            throw;
        }
        finally
        {
            Memory.Unmap(image.Start, image.Length);
        }
    }

    private static void Begin(FileDescriptor socket, FileDescriptor pidfd, int pid, FileDescriptor description)
    {
        UnixSocket.Send(socket, KeeperMessage.Begin, description);
        Step.Reached(SnapshotStep.DescriptionSent, pid);
        Expect(socket, pidfd, pid);
        Step.Reached(SnapshotStep.KeeperReady, pid);
    }

    private static void Expect(FileDescriptor socket, FileDescriptor pidfd, int pid)
    {
        byte? received = Poll.Readable(socket, Patience) ? UnixSocket.Receive(socket) : null;
        if (received == KeeperMessage.Ready) return;
        if (received == KeeperMessage.NoRoom)
            throw new PvmmapException(Errno.ENOMEM, "start the snapshot's keeper", pid, hint: "the process has no room for what it needs: RLIMIT_AS, or vm.max_map_count");
        throw new PvmmapException(Errno.EAGAIN, "start the snapshot's keeper", pid,
            hint: Linux.Pidfd.HasEnded(pidfd) ? "it ended (killed, or no memory for it)" : "it does not answer");
    }

    /// <summary>From now on it ends only when it is killed.</summary>
    public void Stay()
    {
        if (stays) return;
        UnixSocket.Send(socket!, KeeperMessage.Detach);
        Expect(socket!, pidfd, Pid);
        stays = true;
    }

    /// <summary>Ends it, whatever it was told.</summary>
    public void End()
    {
        Linux.Pidfd.Kill(pidfd);
        // Its memory is free when this returns.
        Poll.Readable(pidfd, Patience);
    }

    public void Dispose()
    {
        if (!stays) End();
        socket?.Dispose();
        socket = null;
        pidfd.Dispose();
    }
}
