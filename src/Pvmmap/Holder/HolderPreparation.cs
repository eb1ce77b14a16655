using Pvmmap.Linux;

namespace Pvmmap.Holder;

/// <summary>
/// What a holder is to be given and what has to be known before it begins, none of which depends on it: had while the caller would only wait for the source's fork(), or else
/// when it is needed.
/// </summary>
/// <param name="besides">What else there is to do before it begins; done again if it failed.</param>
internal sealed class HolderPreparation(Action besides) : IDisposable
{
    private ControlMapping? control;
    private bool? overcommitStrict;
    private bool done;

    /// <summary>vm.overcommit_memory: 2, never more than there is.</summary>
    public bool IsOvercommitStrict => overcommitStrict ??= Files.TryReadText("/proc/sys/vm/overcommit_memory") is not { } mode || mode.StartsWith('2');

    /// <summary>Does all that is not done yet.</summary>
    public void Complete()
    {
        if (done) return;
        control ??= ControlMapping.Create();
        _ = IsOvercommitStrict;
        besides();
        done = true;
    }

    /// <summary>The same, ahead of its turn: what fails is done then, and said.</summary>
    public void TryComplete()
    {
        try
        {
            Complete();
        }
        catch (PvmmapException)
        {
            // It is not done: Complete does it again.
        }
    }

    /// <summary>A control page, which is the caller's from then on.</summary>
    public ControlMapping TakeControl()
    {
        ControlMapping taken = control ?? ControlMapping.Create();
        control = null;
        return taken;
    }

    public void Dispose() => control?.Dispose();
}
