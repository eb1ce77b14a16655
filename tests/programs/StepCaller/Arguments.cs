using System.Globalization;
using Pvmmap;

namespace StepCaller;

/// <summary>What the command line says; numbers are decimal or 0x-hexadecimal.</summary>
internal sealed record Arguments(
    string Door, int Source, int Target, ulong Address, ulong Pages, ulong Pieces, ulong Destination, MmapFlags Flags, string[] StopAt, uint FillStopAt)
{
    public const string Usage =
        "StepCaller DOOR SOURCE TARGET ADDRESS PAGES PIECES DESTINATION FLAGS CALLSTEP FILLSTEP\n"
        + "  DOOR         Unix socket to talk through; - is standard input and output\n"
        + "  SOURCE, TARGET  process numbers; 0 is this process, which then makes the mapping that the call needs\n"
        + "  PIECES       mappings that its own source range consists of\n"
        + "  CALLSTEP, FILLSTEP  where to stop, once: names of CallStep (or SnapshotStep; several with commas) and FillStep, or None";

    public ulong Length => Pages * 4096;

    public static Arguments Parse(string[] words) => new(
        words[0], (int)Number(words[1]), (int)Number(words[2]), Number(words[3]), Number(words[4]), Number(words[5]), Number(words[6]),
        (MmapFlags)Number(words[7]), [.. words[8].Split(',').Select(StepNamed)], (uint)Enum.Parse<Pvmmap.Holder.FillStep>(words[9]));

    private static string StepNamed(string word) => Enum.IsDefined(typeof(SnapshotStep), word) ? word : Enum.Parse<CallStep>(word).ToString();

    public static ulong Number(string word) => word.StartsWith("0x", StringComparison.Ordinal)
        ? ulong.Parse(word.AsSpan(2), NumberStyles.HexNumber, CultureInfo.InvariantCulture)
        : ulong.Parse(word, CultureInfo.InvariantCulture);
}
