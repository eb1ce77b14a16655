using CsCheck;

namespace Pvmmap.ConformanceTests.Soak;

internal enum Act { Call, Map, Write, Unmap, Move, DontNeed, Protect, Fork, Check, Finish }

/// <summary>One step of a play; the dice decide who does it, and where.</summary>
internal readonly record struct PlayStep(Act Act, ulong Dice)
{
    public static Gen<PlayStep> Gen { get; } = CsCheck.Gen.Select(
        CsCheck.Gen.Frequency(
            (40, Act.Call), (10, Act.Map), (12, Act.Write), (6, Act.Unmap), (8, Act.Move), (7, Act.DontNeed), (7, Act.Protect), (4, Act.Fork),
            (4, Act.Check), (2, Act.Finish)),
        CsCheck.Gen.ULong,
        (act, dice) => new PlayStep(act, dice));
}

/// <summary>Numbers that follow from one (splitmix64).</summary>
internal sealed class Dice(ulong state)
{
    private ulong _state = state;

    /// <summary>From 0 to <paramref name="below"/> - 1.</summary>
    public ulong Roll(ulong below)
    {
        ulong x = _state += 0x9e3779b97f4a7c15;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
        x = (x ^ x >> 27) * 0x94d049bb133111eb;
        return (x ^ x >> 31) % below;
    }

    public bool OneIn(ulong times) => Roll(times) == 0;

    public T Pick<T>(params IReadOnlyList<T> of) => of[(int)Roll((ulong)of.Count)];
}
