using System.Runtime.CompilerServices;

namespace Pvmmap.Holder.Freestanding;

/// <summary>
/// Keeps the memory of a snapshot: a fork of the process that does nothing, for as long as its owner has the other end of the socket, or, once it has
/// been told to stay, until it is killed.
/// </summary>
internal static unsafe class Keeper
{
    /// <summary>Never returns.</summary>
    [SkipLocalsInit]
    public static void Run(KernelEntry call, ulong description)
    {
        Kernel.SetName(call, 0x732d_7061_6d6d_7670, 0x0074_6f68_7370_616e); // "pvmmap-snapshot"
        // khugepaged would turn pages that were never touched into populated ones.
        Kernel.DisableHugePages(call);
        Descriptors received;
        if (Messages.Receive(call, &received) != 1)
            Kernel.Exit(call, 1);
        Kernel.MoveDescriptor(call, received.First, HolderFds.Control);
        long mapped = call(SystemCalls.mmap, 0, (long)description, Kernel.PROT_READ, Kernel.MAP_SHARED, HolderFds.Control, 0);
        if (mapped < 0)
        {
            Messages.Send(call, KeeperMessage.NoRoom);
            Kernel.Exit(call, 1);
        }
        KeeperHeader* header = (KeeperHeader*)mapped;
        Words2* ranges = (Words2*)(header + 1);
        // What is sealed (mseal) stays: it costs memory, no more.
        for (ulong i = 0; i < header->DropCount; i++)
            Kernel.Unmap(call, ranges[i].First, ranges[i].Second - ranges[i].First);
        Kernel.Unmap(call, (ulong)mapped, description);
        Messages.Send(call, KeeperMessage.Ready);
        while (Messages.Receive(call, &received) >= 0)
        {
            if (received.Content != KeeperMessage.Detach)
                continue;
            Messages.Send(call, KeeperMessage.Ready);
            Kernel.Close(call, HolderFds.Socket);
            for (;;)
                Kernel.Poll(call, null, 0, -1);
        }
        Kernel.Exit(call, 0);
    }
}
