using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Pvmmap.Bench;

/// <summary>NAME.json and NAME.md: the latest results, kept with the source.</summary>
internal static class ResultFiles
{
    private static readonly BenchJson s_json = new(new JsonSerializerOptions(BenchJson.Default.Options) { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping });

    public static void Write(BenchReport report, DirectoryInfo folder)
    {
        folder.Create();
        File.WriteAllText(Path.Combine(folder.FullName, $"{report.Name}.json"), JsonSerializer.Serialize(report, s_json.BenchReport) + "\n");
        File.WriteAllText(Path.Combine(folder.FullName, $"{report.Name}.md"), Rendering.Markdown(report));
    }

    /// <returns>null where nothing of that name is stored.</returns>
    public static BenchReport? Read(string name, DirectoryInfo folder)
    {
        string path = Path.Combine(folder.FullName, $"{name}.json");
        return File.Exists(path) ? JsonSerializer.Deserialize(File.ReadAllText(path), s_json.BenchReport) : null;
    }
}

[JsonSourceGenerationOptions(WriteIndented = true, PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(BenchReport))]
internal sealed partial class BenchJson : JsonSerializerContext;
