using System.Runtime;

namespace Pvmmap.Holder.Freestanding;

/// <summary>The functions of the image that others call; the linker script puts their offsets into the header.</summary>
internal static unsafe class EntryPoints
{
    [RuntimeExport("holder_boot")]
    private static void HolderBoot(HolderBootArguments* arguments) => Boot.Run(arguments);

    [RuntimeExport("sentinel_become")]
    private static void SentinelBecome(SentinelArguments* arguments) => Sentinel.Become(arguments);

    [RuntimeExport("sentinel_main")]
    private static void SentinelMain(ulong syscall) => Sentinel.Run((KernelEntry)syscall);

    [RuntimeExport("tracer_main")]
    private static void TracerMain(TracerMailbox* mailbox) => Tracer.Run(mailbox);
}
