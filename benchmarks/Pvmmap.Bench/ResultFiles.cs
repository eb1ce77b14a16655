using System.Text.Encodings.Web;
using System.Text.Json;

namespace Pvmmap.Bench;

/// <summary>NAME.json and NAME.md: the latest results, kept with the source.</summary>
internal static class ResultFiles
{
    private static readonly JsonSerializerOptions s_json = new()
    {
        WriteIndented = true,
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    public static void Write(BenchReport report, DirectoryInfo folder)
    {
        folder.Create();
        File.WriteAllText(Path.Combine(folder.FullName, $"{report.Name}.json"), JsonSerializer.Serialize(report, s_json) + "\n");
        File.WriteAllText(Path.Combine(folder.FullName, $"{report.Name}.md"), Rendering.Markdown(report));
    }
}
