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

        return Show("filling", fill.BytesTotal, task => Wait(fill, () =>
        {
            ulong total = fill.BytesTotal;
            task.MaxValue = Math.Max(total, 1);
            task.Value = total - Math.Min(fill.BytesToGo, total);
        }, _interrupted.Token));
    }

    /// <summary>Has the pages of a fill that has ended joined to huge pages. Ctrl-C leaves the rest as it is.</summary>
    /// <returns>Bytes in huge pages; null if it was cut short.</returns>
    public ulong? Join(Duplication fill)
    {
        try
        {
            return Console.IsErrorRedirected ? fill.UseHugePages(null, _interrupted.Token)
                : Show("joining to huge pages", fill.Length, task => fill.UseHugePages(new Report(task), _interrupted.Token));
        }
        catch (OperationCanceledException)
        {
            return null;
        }
    }

    /// <summary>Draws a bar while the work is done. On standard error, so that what is printed on standard output can be redirected by itself.</summary>
    public static T Show<T>(string what, ulong bytes, Func<ProgressTask, T> work) => Terminal.Error.Progress()
        .AutoClear(true)
        .Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new DownloadedColumn(), new TransferSpeedColumn(),
            new RemainingTimeColumn())
        .Start(progress => work(progress.AddTask(what, maxValue: Math.Max(bytes, 1))));

    private static bool Wait(Duplication fill, Action refresh, CancellationToken interrupted)
    {
        while (!fill.Wait(s_refresh))
        {
            if (interrupted.IsCancellationRequested) return false;
            refresh();
        }

        return true;
    }

    private sealed class Report(ProgressTask task) : IProgress<ulong>
    {
        void IProgress<ulong>.Report(ulong value) => task.Value = value;
    }
}
