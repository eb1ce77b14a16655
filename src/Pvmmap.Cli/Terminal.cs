using Spectre.Console;

namespace Pvmmap.Cli;

/// <summary>The consoles that the commands write to: colours where there is a terminal, plain text in a pipe.</summary>
internal static class Terminal
{
    /// <summary>Standard output. Lines are never broken here, so that grep finds them whole; a terminal that is narrower wraps them itself.</summary>
    public static IAnsiConsole Output { get; } = Unbroken(AnsiConsole.Console);

    /// <summary>Standard error, as wide as the terminal is: for what is drawn over and over.</summary>
    public static IAnsiConsole Error { get; } = To(Console.Error);

    /// <summary>Drops everything.</summary>
    public static IAnsiConsole Silent { get; } = To(TextWriter.Null);

    private static IAnsiConsole To(TextWriter writer) => AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(writer) });

    private static IAnsiConsole Unbroken(IAnsiConsole console)
    {
        console.Profile.Width = short.MaxValue;
        return console;
    }
}
