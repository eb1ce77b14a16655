using Pvmmap.Cli;
using Spectre.Console;

namespace Pvmmap.Bench;

/// <summary>What is being measured, in one line of the terminal that is overwritten; nothing in a pipe.</summary>
internal static class Progress
{
    public static T While<T>(Func<Action<string>, T> work)
    {
        if (Console.IsErrorRedirected) return work(_ => { });
        T result = default!;
        Terminal.Error.Status().Start("starting", context => result = work(what => context.Status = what));
        return result;
    }
}
