namespace Pvmmap.Bench.Charts;

/// <summary>Draws the charts of the results that are stored in a folder; and, given a document, makes the parts of it anew that come from them.</summary>
internal static class Program
{
    private static int Main(string[] args)
    {
        if (args.Length is not (1 or 2))
        {
            Console.Error.WriteLine("usage: Pvmmap.Bench.Charts RESULTS [README]");
            return 2;
        }

        try
        {
            var results = new DirectoryInfo(args[0]);
            foreach (Chart chart in Chart.All) chart.Draw(results);
            if (args.Length == 2) File.WriteAllText(args[1], ReadmeText.Rewrite(File.ReadAllText(args[1]), results));
            return 0;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or InvalidDataException)
        {
            Console.Error.WriteLine($"charts: {e.Message}");
            return 1;
        }
    }
}
