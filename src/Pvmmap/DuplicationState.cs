namespace Pvmmap;

/// <summary>Where a <see cref="Duplication"/> stands.</summary>
public enum DuplicationState
{
    /// <summary>The holder serves faults and fills the rest in the background.</summary>
    Filling,

    /// <summary>The holder serves faults only (<see cref="MmapFlags.Lazy"/>).</summary>
    Lazy,

    /// <summary>Every page is in place; nothing of ours is left in any process.</summary>
    Complete,

    /// <summary>The target exited, called exec or unmapped the range before the fill was done; nothing is owed to it any more.</summary>
    TargetGone,

    /// <summary>The holder was destroyed before the fill was done: missing pages raise SIGBUS in the target, never zeros.</summary>
    Lost,
}
