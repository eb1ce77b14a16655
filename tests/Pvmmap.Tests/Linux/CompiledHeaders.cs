using System.Diagnostics;
using System.Globalization;
using Xunit;

namespace Pvmmap.Tests.Linux;

/// <summary>What the system's C headers say, asked through tests/programs/abi_layout.c and the C compiler.</summary>
internal static class CompiledHeaders
{
    private const string Compiler = "gcc";

    /// <summary>The values of the constants, and every "sizeof", "prefix" and "offsetof" line of the program.</summary>
    public static Dictionary<string, long> Ask(IEnumerable<string> constants)
    {
        if (!IsOnPath(Compiler)) Assert.Skip($"needs {Compiler}");
        string directory = Directory.CreateTempSubdirectory("pvmmap-abi-").FullName;
        try
        {
            string list = Path.Combine(directory, "constants.h"), program = Path.Combine(directory, "abi_layout");
            File.WriteAllLines(list, constants.Distinct().Order(StringComparer.Ordinal).Select(name => $"CONSTANT({name})"));
            string source = Path.Combine(AppContext.BaseDirectory, "programs", "abi_layout.c");
            Run(Compiler, "-std=gnu11", "-Wall", "-Werror", $"-DCONSTANTS=\"{list}\"", "-o", program, source);
            return Run(program).Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => line.Split('='))
                .ToDictionary(pair => pair[0], pair => long.Parse(pair[1], CultureInfo.InvariantCulture));
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    private static bool IsOnPath(string name) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Any(directory => File.Exists(Path.Combine(directory, name)));

    private static string Run(string program, params string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        using Process process = Process.Start(start)!;
        Task<string> error = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        Assert.True(process.ExitCode == 0, $"{program} ended with {process.ExitCode}:\n{error.Result}");
        return output;
    }
}
