using System.Diagnostics;
using System.Globalization;

namespace Pvmmap.Bench;

/// <summary>The C program beside us that delivers pages through a userfaultfd and does nothing else: the floor of a fault's cost.</summary>
internal static class BareHandler
{
    /// <summary>Path of the program; null where it was not given.</summary>
    public static string? Program { get; set; }

    /// <param name="bytes">The memory.</param>
    /// <param name="stride">Bytes from one access to the next.</param>
    /// <param name="write">Whether the accesses are writes.</param>
    /// <param name="together">Whether the handler and who faults are kept on processor 0.</param>
    /// <returns>null where the program was not given.</returns>
    public static Latency? Measure(ulong bytes, ulong stride, bool write, bool together)
    {
        if (Program is null) return null;
        string[] command =
        [
            .. together ? (string[])["taskset", "--cpu-list", "0"] : [],
            Program, bytes.ToString(CultureInfo.InvariantCulture), stride.ToString(CultureInfo.InvariantCulture), write ? "write" : "read",
        ];
        using Process process = Process.Start(new ProcessStartInfo(command[0], command[1..])
        {
            RedirectStandardOutput = true,
        })!;
        string answer = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        if (process.ExitCode != 0) throw new IOException($"bench: {Program} ended with {process.ExitCode}; its message is above");
        ulong[] words = [.. answer.Split([' ', '\n'], StringSplitOptions.RemoveEmptyEntries).Select(word => ulong.Parse(word, CultureInfo.InvariantCulture))];
        return new Latency(words[0], words[1], words[2]);
    }
}
