using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests.Cli;

/// <summary>The built tool, started as a user's shell would start it, without a terminal.</summary>
internal sealed class Tool : IDisposable
{
    private readonly Process _process;
    private readonly StringBuilder _output = new();
    private readonly Task<string> _errors;

    private Tool(IEnumerable<string> command, IEnumerable<string>? environment = null)
    {
        Assert.True(File.Exists(Path), $"{Path} is not there: run ./build first");
        // Whoever runs the tests may ignore SIGINT (a shell's background job), and the tool would inherit that.
        _process = Process.Start(new ProcessStartInfo("env", ["--default-signal=INT", .. environment ?? [], .. command]) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        _process.OutputDataReceived += (_, line) =>
        {
            lock (_output) _output.Append(line.Data is null ? "" : line.Data + "\n");
        };
        _process.BeginOutputReadLine();
        _errors = _process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
    }

    public static string Path => System.IO.Path.Combine(Theatre.RepositoryRoot, "artifacts/bin/pvmmap");

    /// <summary>Starts it; the words of the line are its arguments.</summary>
    public static Tool Start(FormattableString line) =>
        new([Path, .. Words(line)]);

    /// <summary>The same through another command, setpriv for instance, whose user may not be allowed into the build's folder.</summary>
    public static ToolResult Run(Theatre theatre, IEnumerable<string> through, FormattableString line)
    {
        string copy = theatre.Program("pvmmap");
        if (!File.Exists(copy)) File.Copy(Path, copy);
        File.SetUnixFileMode(copy, (UnixFileMode)Convert.ToInt32("755", 8));
        using Tool tool = new([.. through, copy, .. Words(line)]);
        return tool.Finish();
    }

    private static string[] Words(FormattableString line) => line.ToString(CultureInfo.InvariantCulture).Split(' ', StringSplitOptions.RemoveEmptyEntries);

    public static ToolResult Run(FormattableString line)
    {
        using Tool tool = Start(line);
        return tool.Finish();
    }

    /// <summary>Runs it where the kernel is to be taken not to have some features.</summary>
    public static ToolResult RunWithout(string features, FormattableString line) => RunWith($"PVMMAP_WITHOUT={features}", line);

    /// <summary>Runs it with a variable in its environment, NAME=VALUE.</summary>
    public static ToolResult RunWith(string variable, FormattableString line)
    {
        using Tool tool = new([Path, .. Words(line)], [variable]);
        return tool.Finish();
    }

    /// <summary>Runs it and reads the JSON that it prints.</summary>
    public static JsonElement Json(FormattableString line)
    {
        ToolResult result = Run(line);
        Assert.True(result.Code == 0, result.Errors);
        return JsonElement.Parse(result.Output);
    }

    /// <summary>Whole lines that it has written so far.</summary>
    public string Output
    {
        get
        {
            lock (_output) return _output.ToString();
        }
    }

    public int Pid => _process.Id;

    /// <summary>What Ctrl-C sends.</summary>
    public void Interrupt() => Libc.Kill(_process.Id, 2);

    public ToolResult Finish()
    {
        Assert.True(_process.WaitForExit(TimeSpan.FromMinutes(2)), "the tool does not come to an end");
        // Once more without a limit: this one also waits for the rest of the output.
        _process.WaitForExit();
        return new ToolResult(_process.ExitCode, Output, _errors.GetAwaiter().GetResult());
    }

    public void Dispose()
    {
        if (!_process.HasExited) _process.Kill();
        _process.Dispose();
    }
}

/// <summary>How the tool ended and what it wrote.</summary>
internal sealed record ToolResult(int Code, string Output, string Errors);
