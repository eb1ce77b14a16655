namespace StepCaller;

/// <summary>The seeds of what lies in the source range, and at the destination before the call.</summary>
internal static class Content
{
    public const ulong SourceSeed = 1, TargetSeed = 2;
}
