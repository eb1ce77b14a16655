namespace Pvmmap;

/// <summary>What made a call.</summary>
public enum Backend
{
    /// <summary>This library: fork, userfaultfd and ptrace.</summary>
    UserSpace,

    /// <summary>The kernel's own process_vm_mmap(): pages are shared copy-on-write, and nothing is left to be filled when it returns.</summary>
    Kernel,
}
