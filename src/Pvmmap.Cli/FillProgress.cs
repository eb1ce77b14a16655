using System.Runtime.InteropServices;
using Spectre.Console;

namespace Pvmmap.Cli;

/// <summary>Follows a fill until it ends: bytes, rate and time left on a terminal, nothing in a pipe.</summary>
internal static class FillProgress
{
    private static readonly TimeSpan s_refresh = TimeSpan.FromMilliseconds(100);

    /// <summary>Returns when the fill has ended, or as soon as the user presses Ctrl-C.</summary>
    /// <returns>false if it was Ctrl-C.</returns>
    public static bool Follow(Duplication fill)
    {
        using var interrupted = new CancellationTokenSource();
        using var signal = PosixSignalRegistration.Create(PosixSignal.SIGINT, context =>
        {
            context.Cancel = true;
            interrupted.Cancel();
        });
        if (Console.IsErrorRedirected) return Wait(fill, () => { }, interrupted.Token);

        // On standard error, so that what is printed on standard output can be redirected by itself.
        return Terminal.Error.Progress()
            .AutoClear(true)
            .Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new DownloadedColumn(), new TransferSpeedColumn(), new RemainingTimeColumn())
            .Start(progress =>
            {
                ProgressTask task = progress.AddTask("filling", maxValue: Math.Max(fill.BytesTotal, 1));
                return Wait(fill, () => task.Value = fill.BytesTotal - Math.Min(fill.BytesToGo, fill.BytesTotal), interrupted.Token);
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
