using Pvmmap.Linux;

namespace Pvmmap;

/// <summary>What the user wants calls to be made by: the kernel where it can (auto), only the kernel, or never.</summary>
internal enum BackendChoice
{
    Auto,
    Kernel,
    UserSpace,
}

/// <summary>Which way calls are made: what <see cref="Variable"/> says, and whether the kernel has the call.</summary>
internal static class Backends
{
    /// <summary>auto (the same as unset), kernel or userspace; read once.</summary>
    public const string Variable = "PVMMAP_BACKEND";

    /// <summary>What cures a choice that the kernel cannot fulfil.</summary>
    public const string Cure = $"set {Variable} to auto or userspace, or boot a kernel that has the call (kernel/README.md)";

    public const string NoSystemCall = $"{Variable} is kernel, and this kernel has no process_vm_mmap()";

    /// <summary>Why the kernel's call cannot be made between two others.</summary>
    public const string OnlyOfTheCaller = "the kernel's process_vm_mmap() has the caller as source or target";

    private static readonly Lazy<BackendChoice> s_choice = new(() => Parse(Environment.GetEnvironmentVariable(Variable)));

    /// <exception cref="PvmmapException">EINVAL: <see cref="Variable"/> is none of its three words.</exception>
    public static BackendChoice Choice => s_choice.Value;

    /// <exception cref="PvmmapException">EINVAL: none of the three words.</exception>
    public static BackendChoice Parse(string? word) => word switch
    {
        null or "" or "auto" => BackendChoice.Auto,
        "kernel" => BackendChoice.Kernel,
        "userspace" => BackendChoice.UserSpace,
        _ => throw new PvmmapException(Errno.EINVAL, $"read {Variable}", hint: $"'{word}' is no backend; unset it, or set it to auto, kernel or userspace"),
    };

    /// <summary>As it is written in <see cref="Variable"/>, in --json and in reports.</summary>
    public static string Word(this Backend backend) => backend == Backend.Kernel ? "kernel" : "userspace";

    /// <summary>Who will make a call between these two, unless what is in the range decides otherwise.</summary>
    /// <exception cref="PvmmapException">EINVAL: <see cref="Choice"/>. ENOSYS: only the kernel may, and cannot.</exception>
    public static Backend Of(int sourcePid, int targetPid) =>
        Of(Choice, () => ProcessVmMmap.IsPresent, sourcePid == Environment.ProcessId || targetPid == Environment.ProcessId);

    /// <summary>The same of a choice, a kernel, and a pair of which one is the caller or none.</summary>
    public static Backend Of(BackendChoice choice, Func<bool> isPresent, bool ofTheCaller)
    {
        if (choice == BackendChoice.UserSpace) return Backend.UserSpace;
        if (isPresent() && ofTheCaller) return Backend.Kernel;
        if (choice == BackendChoice.Auto) return Backend.UserSpace;
        throw new PvmmapException(Errno.ENOSYS, "choose who makes the call", hint: isPresent() ? $"{Variable} is kernel, and {OnlyOfTheCaller}; set {Variable} to auto"
            : $"{NoSystemCall}; {Cure}");
    }
}
