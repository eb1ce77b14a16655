namespace Pvmmap.Bench;

/// <summary>How much of a call a C program makes that consists of its system calls.</summary>
internal enum CallInC
{
    /// <summary>What it cannot do without.</summary>
    Bare,

    /// <summary>And that by which one knows that it does no harm.</summary>
    Guarded,

    /// <summary>And the way back of the processes, should the caller be killed; between programs like .NET's.</summary>
    Complete,
}
