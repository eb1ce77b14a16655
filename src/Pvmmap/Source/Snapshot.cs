using Pvmmap.Holder;
using Pvmmap.Linux;
using Pvmmap.Procfs;
using Pvmmap.Remote;

namespace Pvmmap.Source;

/// <summary>Takes a range of a process as it is at one instant: the kernel's copy-on-write guards it from then on.</summary>
internal static class Snapshot
{
    /// <summary>Takes from this process, null if a userfaultfd guards part of the range. As with fork(), a page that another thread is writing right now lands on one side or the other.</summary>
    public static HolderProcess? TakeOwn(SourcePlan plan, TracerProcess tracer, bool underSeccomp)
    {
        using OwnProcess own = new();
        if (UserfaultfdProbe.IsGuarded(own, tracer, plan.Range)) return null;
        Step.Reached(CallStep.RangeProbed);
        using ForkAdvice advice = new(own, plan);
        return HolderProcess.ForkThisProcess(tracer, plan.Range, mayServe: !underSeccomp);
    }

    /// <summary>Takes from a process whose threads all stand still, and lets it go on unless it is under seccomp. Null if a userfaultfd guards part of the range.</summary>
    public static HolderProcess? Take(StoppedProcess source, SourcePlan plan, TracerProcess tracer)
    {
        if (UserfaultfdProbe.IsGuarded(source, tracer, plan.Range)) return null;
        Step.Reached(CallStep.RangeProbed);
        RemoteThread child;
        using (new ForkAdvice(source, plan)) child = source.ForkUnseen();
        if (!source.IsUnderSeccomp) source.Dispose();
        return HolderProcess.Start(child, plan.Range, frozen: source.IsUnderSeccomp);
    }

    /// <summary>Lifts MADV_DONTFORK and MADV_WIPEONFORK from the range for the instant of the fork, and puts them back whatever happens.</summary>
    private sealed class ForkAdvice : IDisposable
    {
        private readonly IProcessCalls process;
        private readonly List<(PageRange Range, int Advice, int Undo)> lifted = [];

        public ForkAdvice(IProcessCalls process, SourcePlan plan)
        {
            this.process = process;
            try
            {
                foreach (SourcePiece piece in plan.Pieces)
                {
                    if (piece.Flags.HasFlag(VmFlags.DontCopy)) Lift(piece.Range, Memory.MADV_DOFORK, Memory.MADV_DONTFORK);
                    if (piece.Flags.HasFlag(VmFlags.WipeOnFork)) Lift(piece.Range, Memory.MADV_KEEPONFORK, Memory.MADV_WIPEONFORK);
                }
            }
            catch
            {
                Dispose();
                throw;
            }
        }

        private void Lift(PageRange range, int lift, int restore)
        {
            int undo = process.AddUndo(SystemCall.SYS_madvise, (long)range.Start, (long)range.Length, restore);
            lifted.Add((range, restore, undo));
            process.Invoke(SystemCall.SYS_madvise, (long)range.Start, (long)range.Length, lift)
                .OrThrow("let the fork see the range", process.Pid, range);
        }

        public void Dispose()
        {
            foreach ((PageRange range, int advice, int undo) in lifted)
            {
                process.Invoke(SystemCall.SYS_madvise, (long)range.Start, (long)range.Length, advice);
                process.ClearUndo(undo);
            }
            lifted.Clear();
        }
    }
}
