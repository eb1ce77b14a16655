using System.Runtime.InteropServices;
using Spectre.Console;

namespace Pvmmap.Cli;

/// <summary>
/// Follows a fill until it ends: bytes, rate and time left on a terminal, nothing in a pipe. From the moment it is made, Ctrl-C ends the watching
/// and no longer the process.
/// </summary>
internal sealed class FillProgress : IDisposable
{
    private static readonly TimeSpan s_refresh = TimeSpan.FromMilliseconds(100);

    private readonly CancellationTokenSource _interrupted = new();
    private readonly PosixSignalRegistration _signal;

    public FillProgress() => _signal = PosixSignalRegistration.Create(PosixSignal.SIGINT, context =>
    {
        context.Cancel = true;
        _interrupted.Cancel();
    });

    public void Dispose()
    {
        _signal.Dispose();
        _interrupted.Dispose();
    }

    /// <summary>Returns when the fill has ended, or as soon as the user presses Ctrl-C.</summary>
    /// <returns>false if it was Ctrl-C.</returns>
    public bool Follow(Duplication fill)
    {
        if (Console.IsErrorRedirected) return Wait(fill, () => { }, _interrupted.Token);

        // On standard error, so that what is printed on standard output can be redirected by itself.
        return Terminal.Error.Progress()
            .AutoClear(true)
            .Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new DownloadedColumn(), new TransferSpeedColumn(),
                new RemainingTimeColumn())
            .Start(progress =>
            {
                ProgressTask task = progress.AddTask("filling", maxValue: Math.Max(fill.BytesTotal, 1));
                return Wait(fill, () => task.Value = fill.BytesTotal - Math.Min(fill.BytesToGo, fill.BytesTotal), _interrupted.Token);
            });
    }

    private static bool Wait(Duplication fill, Action refresh, CancellationToken interrupted)
    {
        while (!fill.Wait(s_refresh))
        {
            if (interrupted.IsCancellationRequested) return false;
            refresh();
        }

        return true;
    }
}
