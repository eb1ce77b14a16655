namespace Pvmmap.Holder.Freestanding;

/// <summary>Forks a holder from the process that this runs in.</summary>
/// <remarks>
/// Through an intermediate process that shares the memory and ends at once: the caller's wait() never sees a stranger, no zombie stays, and the
/// holder has no rseq registration, which a direct fork would inherit and die of once the caller's thread-local storage is unmapped.
/// </remarks>
internal static unsafe class TakeSelf
{
    public const ulong BootArgumentsFromEnd = 0x400;
    private const long CLONE_VM = 0x100;
    private const long CLONE_VFORK = 0x4000;
    private const long __WALL = 0x40000000;

    public static void Run(TakeSelfArguments* arguments, ulong intermediate)
    {
        KernelEntry call = (KernelEntry)arguments->Syscall;
        var clone = (delegate*<long, ulong, ulong, ulong, long>)arguments->CloneCall;
        arguments->HolderPid = Kernel.ECHILD;
        // The calling thread stands still until the intermediate has ended.
        long child = clone(CLONE_VM | CLONE_VFORK, arguments->IntermediateStackTop, intermediate, (ulong)arguments);
        if (child < 0)
        {
            arguments->HolderPid = child;
            return;
        }
        // ECHILD: the program's own reaper was faster.
        while (call(SystemCalls.wait4, child, 0, __WALL, 0, 0, 0) == Kernel.EINTR)
        {
        }
    }

    /// <summary>In the intermediate.</summary>
    public static void Intermediate(TakeSelfArguments* arguments)
    {
        var clone = (delegate*<long, ulong, ulong, ulong, long>)arguments->CloneCall;
        HolderBootArguments* from = &arguments->Boot;
        ulong top = from->ImageStart + from->ImageLength - BootArgumentsFromEnd;
        HolderBootArguments* boot = (HolderBootArguments*)top;
        boot->Syscall = from->Syscall;
        boot->ImageStart = from->ImageStart;
        boot->ImageLength = from->ImageLength;
        boot->SourceStart = from->SourceStart;
        boot->SourceLength = from->SourceLength;
        boot->Socket = from->Socket;
        boot->Move = from->Move;
        boot->Control = 0;
        ImageHeader* header = (ImageHeader*)(from->ImageStart + ImageHeader.Offset);
        arguments->HolderPid = clone(from->Move != 0 ? CLONE_VM : 0, top, from->ImageStart + header->HolderBoot, top);
    }
}
