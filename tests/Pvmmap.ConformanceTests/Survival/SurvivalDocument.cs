using System.Globalization;
using System.Text;
using System.Xml.Linq;
using Pvmmap.ConformanceTests.Stage;
using Pvmmap.Holder;

namespace Pvmmap.ConformanceTests.Survival;

/// <summary>Writes docs/survival.md from what a whole run has seen.</summary>
internal static class SurvivalDocument
{
    private const string Preface = """
        # Who may be killed, and when

        Written by `./test --full` (SurvivalMatrixTests) from what it saw. A test build of the library and of the freestanding code (`./build steps`) stops at each numbered step;
        there the victim is killed with SIGKILL, and the others go on. Then the test looks at everything: every page of source and target, their mappings, descriptors, threads and registers against
        those before, that nobody is stopped or traced, and that after 5 seconds no process of ours is left. The range has 192 pages (3072 where two threads fill it), a tiny one 48, in one mapping or three, and goes over content or to a free place.

        ## The rule, which was there first
        | victim | what may come of it |
        |---|---|
        | the caller, the source, the guardian | the target is `as found` (and the source too, if it lives) or `complete` |
        | the target | the source of a copy is as found; that of a move has the range (`source as found`) or has handed it over (`gone with the target`) |
        | the holder | of a move: nothing is lost, `as found` or `complete`, the guardian goes on. Of a copy also `SIGBUS for the rest` of the pages |
        | both: holder and guardian | `as found`, `complete`, or `SIGBUS for the rest` |

        A call that fails leaves both as found; one that succeeds has put the region there. The source of a copy is as found, whatever happens. A move leaves the range wholly to the source or wholly to
        the target. Where data was there are never zeros. Anything else would be `BAD`, and fails the test. `not there`: at that step there is no such process, not yet or not any more.

        Four exceptions, known beforehand too, each an instant that nothing can close (limits.md says why): `as found but for two pages`, if the caller is killed between mapping the two pages for our calls and
        making them able to go by themselves; `zeros in the child just forked`, if holder and guardian are both killed between reading that the target has forked and handing on the child's userfaultfd;
        `source as found, target SIGBUS`, if both are killed before a move's pages have left the source; `our mappings left`, if nobody is left to take away what a move has put into the source, or the last one is killed while doing so.

        """;

    public static void Write(string path, IReadOnlyDictionary<Cell, string> outcomes)
    {
        var text = new StringBuilder(Preface);
        Dictionary<string, string> meanings = Meanings();
        text.Append("\n## The steps\nWhat has just been done. The first ones are the call's, made by the caller; those from ").Append(Enum.GetValues<FillStep>()[1])
            .Append(" on are the fill's, made by holder and guardian.\n\n| step | |\n|---|---|\n");
        foreach (string step in Enum.GetNames<CallStep>().Skip(1)) AppendStep($"{nameof(CallStep)}.{step}", step);
        foreach (string step in Enum.GetNames<FillStep>().Skip(1)) AppendStep($"{nameof(FillStep)}.{step}", step);
        foreach (Deal deal in Enum.GetValues<Deal>())
        {
            foreach (Way way in Enum.GetValues<Way>()) AppendTable(text, deal, way, outcomes);
        }
        File.WriteAllText(path, text.ToString());

        void AppendStep(string key, string step) => text.Append(CultureInfo.InvariantCulture, $"| {step} | {meanings[key]} |\n");
    }

    private static void AppendTable(StringBuilder text, Deal deal, Way way, IReadOnlyDictionary<Cell, string> outcomes)
    {
        IReadOnlyList<Victim> victims = Cell.Victims(way);
        text.Append(CultureInfo.InvariantCulture, $"\n## {Words(deal)}, {Words(way)}\n| step | {string.Join(" | ", victims.Select(victim => Title(way, victim)))} |\n")
            .Append("|---").Insert(text.Length, "|---", victims.Count).Append("|\n");
        foreach (string step in Cell.Steps(deal, way))
        {
            IEnumerable<string> row = victims.Select(victim => outcomes[new Cell(deal, way, step, victim)].Split('\n')[0].Replace('|', '/'));
            text.Append(CultureInfo.InvariantCulture, $"| {step} | {string.Join(" | ", row)} |\n");
        }
    }

    private static string Words(Deal deal) => deal switch { Deal.Copy => "Copy", Deal.TinyCopy => "Copy of a tiny range", _ => "Move" };

    private static string Words(Way way) => way switch
    {
        Way.Pull => "pull: the caller is the target",
        Way.Push => "push: the caller is the source",
        _ => "third party: the caller is neither",
    };

    private static string Title(Way way, Victim victim) => victim switch
    {
        Victim.Caller when way == Way.Push => "caller = source",
        Victim.Caller when way == Way.Pull => "caller = target",
        Victim.Both => "holder and guardian",
        _ => victim.ToString().ToLowerInvariant(),
    };

    /// <summary>The summaries of the steps, as the compiler has written them down.</summary>
    private static Dictionary<string, string> Meanings() => XDocument.Load(Path.ChangeExtension(typeof(CallStep).Assembly.Location, ".xml")).Descendants("member")
        .Select(member => (Name: member.Attribute("name")!.Value, Text: member.Element("summary")?.Value.Trim()))
        .Where(member => member.Name.StartsWith("F:Pvmmap.", StringComparison.Ordinal) && member.Text is not null
            && (member.Name.Contains("CallStep.", StringComparison.Ordinal) || member.Name.Contains("FillStep.", StringComparison.Ordinal)))
        .ToDictionary(member => string.Join('.', member.Name.Split('.')[^2..]), member => string.Join(' ', member.Text!.Split(default(char[]), StringSplitOptions.RemoveEmptyEntries)));
}
