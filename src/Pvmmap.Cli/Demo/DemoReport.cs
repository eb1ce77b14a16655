namespace Pvmmap.Cli.Demo;

/// <summary>What the demo found, for the table and for --json. The ratios say how many times more process_vm_writev() took.</summary>
internal sealed record DemoReport(
    string Input, ulong Bytes, string Sha256, bool SourceUnchangedByTarget, bool TargetUnchangedBySource, bool SourceUnmappedByMove,
    DemoReport.Run ProcessVmWritev, DemoReport.Run ProcessVmMmap, DemoReport.Run ProcessVmMmapMove, double CallRatio, double PeakRatio,
    double MoveCallRatio, double MovePeakRatio, string PeakMethod, IReadOnlyList<string> Notes)
{
    /// <summary>Everything arrived, nobody saw the other's writes, and what was handed over is gone from where it was.</summary>
    public bool Passed => SourceUnchangedByTarget && TargetUnchangedBySource && SourceUnmappedByMove
        && ProcessVmWritev.Equal && ProcessVmMmap.Equal && ProcessVmMmapMove.Equal;

    public static DemoReport From(DemoInput input, DemoOutcome kept, DemoOutcome pushed, DemoOutcome moved, DemoOutcome written)
    {
        Run writev = Run.From(written, input), mmap = Run.From(pushed, input), move = Run.From(moved, input);
        return new DemoReport(
            input.Description, input.Length, input.Sha256, kept.Measured.SourceUnchanged, kept.Measured.TargetUnchanged && kept.Equal,
            moved.Measured.SourceUnmapped, writev, mmap, move, writev.CallUs / mmap.CallUs, (double)writev.PeakBytes / mmap.PeakBytes,
            writev.CallUs / move.CallUs, (double)writev.PeakBytes / move.PeakBytes, pushed.PeakMethod,
            [.. pushed.Measured.Notes.Union(moved.Measured.Notes)]);
    }

    /// <summary>One of the three ways. Times in microseconds from the start of the call; the peak is of both processes together.</summary>
    internal sealed record Run(double CallUs, double CompleteUs, double VerifiedUs, ulong PeakBytes, double PeakToData, bool Equal)
    {
        public static Run From(DemoOutcome outcome, DemoInput input) => new(
            outcome.Measured.Call.TotalMicroseconds, outcome.Measured.Complete.TotalMicroseconds, outcome.Measured.Verified.TotalMicroseconds,
            outcome.Peak, (double)outcome.Peak / input.Length, outcome.Equal);
    }
}
