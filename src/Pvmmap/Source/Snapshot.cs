using Pvmmap.Holder;
using Pvmmap.Linux;
using Pvmmap.Procfs;
using Pvmmap.Remote;

namespace Pvmmap.Source;

/// <summary>Takes a range of a process as it is at one instant: the kernel's copy-on-write guards it from then on.</summary>
internal static class Snapshot
{
    /// <summary>Takes from this process, null if a userfaultfd guards part of the range. As with fork(), a page that another thread is writing right now lands on one side or the other.</summary>
    public static HolderProcess? TakeOwn(SourcePlan plan, TracerProcess tracer, bool mayServe, Action meanwhile)
    {
        using OwnProcess own = new();
        if (UserfaultfdProbe.IsGuarded(own, tracer, plan)) return null;
        Step.Reached(CallStep.RangeProbed);
        using ForkAdvice advice = new(own, plan);
        return HolderProcess.ForkThisProcess(tracer, plan.Range, mayServe, meanwhile);
    }

    /// <summary>
    /// Takes from a process whose threads all stand still, and lets it go on then if it <paramref name="mayGoOn"/> and is not under seccomp. Null if a
    /// userfaultfd guards part of the range. A holder that is not to serve stays under the tracer, and none of its code is needed.
    /// </summary>
    public static HolderProcess? Take(StoppedProcess source, SourcePlan plan, TracerProcess tracer, bool mayGoOn, bool mayServe, HolderPreparation preparation)
    {
        if (UserfaultfdProbe.IsGuarded(source, tracer, plan)) return null;
        Step.Reached(CallStep.RangeProbed);
        bool frozen = !mayServe || source.IsUnderSeccomp, hasMuchElse;
        RemoteThread child;
        using (ForkAdvice advice = new(source, plan))
        {
            advice.WithholdTheRest(plan.Range);
            if (!frozen) tracer.WhenIdle = preparation.TryComplete;
            try
            {
                child = source.ForkUnseen();
            }
            finally
            {
                tracer.WhenIdle = null;
            }
            hasMuchElse = advice.HasMuchElse(plan.Range);
        }
        source.RemoveFrameFrom(child, plan.Range);
        // Its task's policy would stand in numa_maps for every VMA that has none; an error says that the kernel knows of none.
        if (!mayServe && !source.IsUnderSeccomp) child.Invoke(SystemCall.SYS_set_mempolicy, MemoryPolicy.MPOL_DEFAULT, 0, 0);
        if (mayGoOn && !source.IsUnderSeccomp) source.Dispose();
        // Much of it would keep the target waiting at its first faults, or take what is promised to it.
        return HolderProcess.Start(child, plan.Range, frozen, postpones: !hasMuchElse && !preparation.IsOvercommitStrict, preparation);
    }
}
