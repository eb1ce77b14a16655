using System.Diagnostics;
using System.Globalization;

namespace Pvmmap.Bench;

/// <summary>The program that makes calls and does nothing else, compiled beforehand or as it runs.</summary>
internal static class StartupApp
{
    /// <summary>Paths; null where they were not given.</summary>
    public static string? Compiled { get; set; }

    public static string? Jitted { get; set; }

    /// <summary>Starts it without arguments: it does nothing.</summary>
    /// <returns>From before the process was there until its first line of code.</returns>
    public static TimeSpan Bare(string program) => Run(program).ToMain;

    /// <summary>Starts it and has it pull a range so many times.</summary>
    public static Result Calls(string program, WorkerProcess source, ulong address, ulong length, int count) =>
        Run(program, [.. ((ulong[])[(ulong)source.Pid, address, length, (ulong)count]).Select(number => number.ToString(CultureInfo.InvariantCulture))]);

    private static Result Run(string program, params string[] arguments)
    {
        long start = Nanoseconds();
        using Process process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true })!;
        string answer = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        if (process.ExitCode != 0) throw new IOException($"bench: {program} ended with {process.ExitCode}; its message is above");
        long[] words = [.. answer.Split([' ', '\n'], StringSplitOptions.RemoveEmptyEntries).Select(word => long.Parse(word, CultureInfo.InvariantCulture))];
        Call[] calls = [.. words[1..].Chunk(3).Select(call => new Call(Time(call[0] - start), Time(call[1]), call[2]))];
        return new Result(Time(words[0] - start), calls);
    }

    // The same clock in every process.
    private static long Nanoseconds() => (long)(Stopwatch.GetTimestamp() * (1e9 / Stopwatch.Frequency));

    private static TimeSpan Time(long nanoseconds) => TimeSpan.FromMicroseconds(nanoseconds / 1e3);

    /// <param name="ToMain">From before the process was there until its first line of code.</param>
    /// <param name="Calls">In their order.</param>
    internal sealed record Result(TimeSpan ToMain, Call[] Calls);

    /// <param name="Since">From before the process was there until the call had returned.</param>
    /// <param name="Time">Of the call.</param>
    /// <param name="Allocated">Bytes, in the managed heap.</param>
    internal readonly record struct Call(TimeSpan Since, TimeSpan Time, long Allocated);
}
