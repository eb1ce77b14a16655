namespace Pvmmap.Linux;

/// <summary>
/// What not every kernel since 5.10 has, one bit each: newer, or left out of its configuration. <see cref="KernelFeatures"/> has the names.
/// Compiled into the library and into the freestanding code alike.
/// </summary>
internal static class KernelFeature
{
    public const uint Userfaultfd = 1 << 0;
    public const uint EventFork = 1 << 1;
    public const uint Poison = 1 << 2;
    public const uint UserModeOnly = 1 << 3;
    public const uint DevUserfaultfd = 1 << 4;
    public const uint PagemapScan = 1 << 5;
    public const uint ProcmapQuery = 1 << 6;
    public const uint CloseRange = 1 << 7;
    public const uint PidfdGetFd = 1 << 8;
    public const uint RseqConfiguration = 1 << 9;
    public const uint AnonVmaName = 1 << 10;
    public const uint MremapVmas = 1 << 11;
    public const uint MremapDontUnmap = 1 << 12;
    public const uint Kcmp = 1 << 13;
    public const uint ProcChildren = 1 << 14;
    public const uint MapFiles = 1 << 15;
    public const uint MemfdExec = 1 << 16;
}
