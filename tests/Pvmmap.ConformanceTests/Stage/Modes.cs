namespace Pvmmap.ConformanceTests.Stage;

/// <summary>What becomes of the source range.</summary>
public enum Mode
{
    /// <summary>The source keeps its range.</summary>
    Copy,

    /// <summary>The range is handed over and unmapped in the source.</summary>
    Move,
}

/// <summary>The modes that theories run in.</summary>
public static class Modes
{
    public static IReadOnlyList<Mode> All { get; } = [Mode.Copy, Mode.Move];

    public static MmapFlags Flag(this Mode mode) => mode == Mode.Move ? MmapFlags.Move : MmapFlags.None;
}
