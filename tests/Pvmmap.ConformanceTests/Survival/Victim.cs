namespace Pvmmap.ConformanceTests.Survival;

/// <summary>Who is killed. Where the caller is the source or the target, that one has no column of its own.</summary>
public enum Victim
{
    Caller,
    Source,
    Target,
    Holder,
    Guardian,

    /// <summary>Holder and guardian.</summary>
    Both,
}
