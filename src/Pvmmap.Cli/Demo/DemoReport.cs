namespace Pvmmap.Cli.Demo;

/// <summary>What the demo found, for the table and for --json.</summary>
internal sealed record DemoReport(
    string Input, ulong Bytes, string Sha256, bool SourceUnchangedByTarget, bool TargetUnchangedBySource, DemoReport.Run ProcessVmMmap,
    DemoReport.Run ProcessVmWritev, double CallRatio, double PeakRatio, string PeakMethod, IReadOnlyList<string> Notes)
{
    /// <summary>Everything arrived and nobody saw the other's writes.</summary>
    public bool Passed => SourceUnchangedByTarget && TargetUnchangedBySource && ProcessVmMmap.Equal && ProcessVmWritev.Equal;

    public static DemoReport From(DemoInput input, DemoOutcome kept, DemoOutcome pushed, DemoOutcome written)
    {
        Run mmap = Run.From(pushed, input), writev = Run.From(written, input);
        return new DemoReport(
            input.Description, input.Length, input.Sha256, kept.Measured.SourceUnchanged, kept.Measured.TargetUnchanged && kept.Equal, mmap, writev,
            writev.CallUs / mmap.CallUs, (double)writev.PeakBytes / mmap.PeakBytes, pushed.PeakMethod, pushed.Measured.Notes);
    }

    /// <summary>One of the two ways. Times in microseconds from the start of the call; the peak is of both processes together.</summary>
    internal sealed record Run(double CallUs, double CompleteUs, double VerifiedUs, ulong PeakBytes, double PeakToData, bool Equal)
    {
        public static Run From(DemoOutcome outcome, DemoInput input) => new(
            outcome.Measured.Call.TotalMicroseconds, outcome.Measured.Complete.TotalMicroseconds, outcome.Measured.Verified.TotalMicroseconds,
            outcome.Peak, (double)outcome.Peak / input.Length, outcome.Equal);
    }
}
