using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;

namespace Pvmmap.Cli;

/// <summary>The shapes that --json prints. Addresses are strings of hexadecimal digits after 0x, amounts bytes, times microseconds.</summary>
[JsonSourceGenerationOptions(WriteIndented = true, PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(MapCommand.VmaRow[]))]
[JsonSerializable(typeof(MmapCommand.Report))]
[JsonSerializable(typeof(SnapshotCommand.Report), TypeInfoPropertyName = "SnapshotReport")]
[JsonSerializable(typeof(SnapshotCommand.KeptReport))]
[JsonSerializable(typeof(PsCommand.Report), TypeInfoPropertyName = "PsReport")]
[JsonSerializable(typeof(DoctorCommand.CapabilityRow[]))]
[JsonSerializable(typeof(DoctorCommand.PrognosisReport))]
[JsonSerializable(typeof(HeapCommand.HeapReport))]
[JsonSerializable(typeof(Demo.DemoReport))]
internal sealed partial class JsonOutput : JsonSerializerContext
{
    // The output goes to a terminal or a program, never into HTML: quotes and '>' stay as they are.
    public static JsonOutput Plain => field ??=
        new(new JsonSerializerOptions(Default.Options) { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping });

    public static void Write<T>(T value, JsonTypeInfo<T> type) => Console.Out.WriteLine(JsonSerializer.Serialize(value, type));
}
