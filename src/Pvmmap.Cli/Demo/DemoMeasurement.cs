using System.Text.Json.Serialization;

namespace Pvmmap.Cli.Demo;

/// <summary>What the page server reports of one run. All times count from the start of the call.</summary>
internal sealed record DemoMeasurement
{
    public ulong Address { get; init; }

    public TimeSpan Call { get; init; }

    /// <summary>Every page is in place.</summary>
    public TimeSpan Complete { get; init; }

    /// <summary>The target has read all of it and told its SHA-256.</summary>
    public TimeSpan Verified { get; init; }

    public TimeSpan TargetStopped { get; init; }

    /// <summary>SHA-256 of what the target found.</summary>
    public string Sha256 { get; init; } = "";

    /// <summary>After the target had written into each page.</summary>
    public bool SourceUnchanged { get; init; }

    /// <summary>After the source had written into each page.</summary>
    public bool TargetUnchanged { get; init; }

    /// <summary>When the call had returned its range was no longer mapped in the source.</summary>
    public bool SourceUnmapped { get; init; }

    public IReadOnlyList<string> Notes { get; init; } = [];
}

/// <summary>Between the page server and the driver.</summary>
[JsonSerializable(typeof(DemoMeasurement))]
internal sealed partial class DemoJson : JsonSerializerContext;
