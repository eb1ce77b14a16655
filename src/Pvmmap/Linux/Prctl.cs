namespace Pvmmap.Linux;

/// <summary>prctl(2).</summary>
internal static class Prctl
{
    public const int PR_SET_VMA = 0x53564d41;
    public const int PR_SET_VMA_ANON_NAME = 0;
}
