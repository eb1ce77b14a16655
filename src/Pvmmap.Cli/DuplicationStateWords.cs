namespace Pvmmap.Cli;

/// <summary>The words for a fill's state, in listings and in JSON.</summary>
internal static class DuplicationStateWords
{
    public static string Word(this DuplicationState state) => state switch
    {
        DuplicationState.Filling => "filling",
        DuplicationState.Lazy => "lazy",
        DuplicationState.Complete => "complete",
        DuplicationState.TargetGone => "target-gone",
        DuplicationState.Lost => "lost",
        _ => "unknown",
    };
}
