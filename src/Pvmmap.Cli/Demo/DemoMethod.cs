namespace Pvmmap.Cli.Demo;

/// <summary>How the data gets from the page server into the target.</summary>
internal enum DemoMethod
{
    /// <summary>process_vm_mmap(), and the page server keeps its copy so that both sides can be compared.</summary>
    Keep,

    /// <summary>process_vm_mmap(), and the page server releases its memory as soon as the call has returned.</summary>
    Release,

    /// <summary>process_vm_mmap() with PVMMAP_MOVE: the call itself unmaps the page server's memory.</summary>
    HandOver,

    /// <summary>process_vm_writev(), and the page server releases its memory as soon as the call has returned.</summary>
    Write,
}
