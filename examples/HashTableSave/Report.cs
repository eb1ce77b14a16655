using System.Globalization;

namespace HashTableSave;

/// <summary>All saves of a run, and what they cost the writers.</summary>
internal sealed class Report(NativeTable table, Load load)
{
    private static readonly (Phase Phase, string Title)[] s_columns =
        [(Phase.Quiet, "no save"), (Phase.Snapshot, "from a snapshot"), (Phase.Locked, "under the lock"), (Phase.Torn, "with neither")];

    private readonly List<(Phase Phase, Save Save)> saves = [];

    /// <summary>All that should be good are.</summary>
    public bool IsGood => saves.TrueForAll(entry => entry.Phase == Phase.Torn || entry.Save.Verdict.Holds);

    public void Add(Phase phase, Save save) => saves.Add((phase, save));

    public string Render(int writers)
    {
        (Phase Phase, string Title)[] columns = [.. s_columns.Where(column => column.Phase == Phase.Quiet || Of(column.Phase).Any())];
        StringWriter text = new(CultureInfo.InvariantCulture) { NewLine = "\n" };
        text.WriteLine($"{table.Count} entries in {table.Length / 1048576.0:0.#} MiB, {writers} writer{(writers == 1 ? "" : "s")}, {table.Writes / 2} writes");
        Row("", column => column.Title);
        Row("saves", column => Each(column.Phase, found => $"{found.Length}"));
        Row("save, median", column => Each(column.Phase, found => Time(Middle(found.Select(save => save.Time)))));
        Row("writers paused, median", column => Each(column.Phase, found => Time(Middle(found.Select(save => save.Paused)))));
        Row("writers paused, longest", column => Each(column.Phase, found => Time(found.Max(save => save.Paused))));
        Row("longest write", column => Time(load.Longest(column.Phase)));
        Row("writes per second", column => string.Create(CultureInfo.InvariantCulture, $"{load.PerSecond(column.Phase):#,0}"));
        Row("memory of the save, most", column => Each(column.Phase, found => string.Create(CultureInfo.InvariantCulture, $"{found.Max(save => save.OwnBytes) / 1048576.0:0.#} MiB")));
        Row("read back", column => Each(column.Phase, found => found.All(save => save.Verdict.Holds) ? "good" : "BROKEN"));
        foreach ((Phase phase, Save save) in saves.Where(entry => !entry.Save.Verdict.Holds)) text.WriteLine($"{phase}: {save.Verdict}");
        return text.ToString();

        void Row(string name, Func<(Phase Phase, string Title), string> cell) =>
            text.WriteLine($"{name,-24}{string.Concat(columns.Select(column => cell(column).PadLeft(18)))}");
    }

    private IEnumerable<Save> Of(Phase phase) => saves.Where(entry => entry.Phase == phase).Select(entry => entry.Save);

    private string Each(Phase phase, Func<Save[], string> cell) => phase == Phase.Quiet ? "" : cell([.. Of(phase)]);

    private static TimeSpan Middle(IEnumerable<TimeSpan> times) => times.Order().ToArray() is var sorted ? sorted[sorted.Length / 2] : default;

    private static string Time(TimeSpan time) => string.Create(CultureInfo.InvariantCulture, $"{time.TotalMilliseconds:0.0} ms");
}
