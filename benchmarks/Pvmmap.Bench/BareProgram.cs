using System.Diagnostics;
using System.Globalization;

namespace Pvmmap.Bench;

/// <summary>The C programs beside us that do the least that something takes, and nothing else: the floor of its cost.</summary>
/// <param name="path">The program; null where it was not given.</param>
internal sealed class BareProgram(string? path)
{
    /// <summary>Delivers pages through a userfaultfd.</summary>
    public static BareProgram Handler { get; set; } = new(null);

    /// <summary>Makes the system calls of a copy's call.</summary>
    public static BareProgram Call { get; set; } = new(null);

    public bool IsHere => path is not null;

    /// <summary>A fault. Null where the program was not given.</summary>
    /// <param name="bytes">The memory.</param>
    /// <param name="stride">Bytes from one access to the next.</param>
    /// <param name="write">Whether the accesses are writes.</param>
    /// <param name="together">Whether the handler and who faults are kept on processor 0.</param>
    public Latency? MeasureFaults(ulong bytes, ulong stride, bool write, bool together) =>
        Run(together, Text(bytes), Text(stride), write ? "write" : "read") is [var p50, var p99, var p999] ? new Latency(p50, p99, p999) : null;

    /// <summary>A fork() of so much memory, and the call. Null where the program was not given.</summary>
    /// <param name="way">push, pull, or by a third process.</param>
    /// <param name="bytes">The memory.</param>
    /// <param name="kind">Its pages.</param>
    /// <param name="extent">How much of a call it makes.</param>
    public (TimeSpan Fork, TimeSpan Call)? MeasureCall(string way, ulong bytes, PageKind kind, CallInC extent) =>
        Run(together: false, way, Text(bytes), kind == PageKind.Huge ? "huge" : "small", Name(extent), "1") is [var fork, var call] ? (Time(fork), Time(call)) : null;

    private ulong[]? Run(bool together, params string[] arguments)
    {
        if (path is null) return null;
        string[] command = [.. together ? (string[])["taskset", "--cpu-list", "0"] : [], path, .. arguments];
        using Process process = Process.Start(new ProcessStartInfo(command[0], command[1..]) { RedirectStandardOutput = true })!;
        string answer = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        if (process.ExitCode != 0) throw new IOException($"bench: {path} ended with {process.ExitCode}; its message is above");
        return [.. answer.Split([' ', '\n'], StringSplitOptions.RemoveEmptyEntries).Select(word => ulong.Parse(word, CultureInfo.InvariantCulture))];
    }

    /// <summary>What a call in C of that extent is called.</summary>
    public static string Name(CallInC extent) => extent switch { CallInC.Bare => "bare", CallInC.Guarded => "guarded", _ => "complete" };

    private static string Text(ulong number) => number.ToString(CultureInfo.InvariantCulture);

    private static TimeSpan Time(ulong nanoseconds) => TimeSpan.FromMicroseconds(nanoseconds / 1000.0);
}
