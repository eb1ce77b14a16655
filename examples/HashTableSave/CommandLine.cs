using System.CommandLine;
using System.Globalization;
using System.Runtime.InteropServices;
using Pvmmap;

namespace HashTableSave;

/// <summary>The options, and the run that they ask for.</summary>
internal static class CommandLine
{
    private const ulong DefaultSize = 256 << 20, SmallestSize = 1 << 20;

    // The table, a saved one that is examined, and what a snapshot keeps of what the writers change.
    private const ulong CopiesInMemory = 3;
    private static readonly TimeSpan s_quiet = TimeSpan.FromSeconds(1);

    private delegate bool TryRead<T>(string text, out T value);

    public static RootCommand Create()
    {
        Option<ulong> size = Option<ulong>("--size", "BYTES", "Memory of the table: bytes, or a whole number with K, M or G; 1M at least. Default: 256M.", DefaultSize, TryReadSize);
        Option<int> writers = Option<int>("--writers", "N", "Threads that change the table all the time, 1 to 64. Default: one for each processor but one.",
            Math.Max(1, Environment.ProcessorCount - 1), (string text, out int value) => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out value) && value is >= 1 and <= 64);
        Option<int> saves = Option<int>("--saves", "N", "How many times to save each way, 1 to 1000. Default: 3.", 3,
            (string text, out int value) => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out value) && value is >= 1 and <= 1000);
        Option<string?> folder = new("--folder") { Description = "Where to save, and to leave the saves. Default: a temporary folder, removed at the end.", HelpName = "DIR" };
        Option<bool> all = new("--keep-all") { Description = "Give each save a name of its own, .1 and so on, instead of replacing the one before it." };
        Option<bool> torn = new("--torn") { Description = "Save also without snapshot and lock, to see that the result is found to be broken." };
        RootCommand root = new("A hash table in native memory, saved to disk from a snapshot while threads change it: what Redis calls BGSAVE.")
        {
            size, writers, saves, folder, all, torn,
        };
        root.SetAction(parsed => Run(parsed.GetValue(size), parsed.GetValue(writers), parsed.GetValue(saves), parsed.GetValue(folder), parsed.GetValue(all), parsed.GetValue(torn)));
        return root;
    }

    private static int Run(ulong size, int writers, int saves, string? folder, bool all, bool torn)
    {
        ulong memory = (ulong)GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
        if (size > memory / CopiesInMemory)
            throw new InsufficientMemoryException(string.Create(CultureInfo.InvariantCulture, $"a table of {size} bytes needs {CopiesInMemory} times that, and there are {memory} bytes; give a smaller --size"));
        using CancellationTokenSource interruption = new();
        using PosixSignalRegistration keyboard = PosixSignalRegistration.Create(PosixSignal.SIGINT, Interrupt);
        using PosixSignalRegistration termination = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Interrupt);
        string place = Path.GetFullPath(folder is null ? Directory.CreateTempSubdirectory("hashtable-save-").FullName : Directory.CreateDirectory(folder).FullName);
        try
        {
            using NativeTable table = NativeTable.Create(size & ~(PageRange.PageSize - 1));
            using Load load = new(table, writers);
            Report report = new(table, load);
            Saver saver = new(table, load, interruption.Token);
            saver.WarmUp();
            for (int i = 1; i <= saves; i++)
            {
                report.Add(Phase.Snapshot, Save(saver.FromSnapshot, "table.snapshot", i));
                report.Add(Phase.Locked, Save(saver.UnderTheLock, "table.locked", i));
                if (torn) report.Add(Phase.Torn, Save(saver.Torn, "table.torn", i));
            }
            load.Dispose();
            Console.Write(report.Render(writers));
            return report.IsGood ? 0 : 1;
        }
        finally
        {
            if (folder is null) Directory.Delete(place, recursive: true);
        }

        Save Save(Func<string, Save> way, string name, int number)
        {
            // What the writers do when nobody saves is the measure for all else.
            if (interruption.Token.WaitHandle.WaitOne(s_quiet)) interruption.Token.ThrowIfCancellationRequested();
            return way(Path.Combine(place, all ? string.Create(CultureInfo.InvariantCulture, $"{name}.{number}") : name));
        }

        void Interrupt(PosixSignalContext context)
        {
            context.Cancel = true;
            interruption.Cancel();
        }
    }

    private static Option<T> Option<T>(string name, string value, string description, T standard, TryRead<T> read) => new(name)
    {
        Description = description,
        HelpName = value,
        DefaultValueFactory = _ => standard,
        CustomParser = result =>
        {
            string text = result.Tokens.Count == 0 ? "" : result.Tokens[0].Value;
            if (!read(text, out T found)) result.AddError($"{name}: '{text}' will not do");
            return found;
        },
    };

    private static bool TryReadSize(string text, out ulong bytes)
    {
        int shift = text.Length == 0 ? 0 : char.ToUpperInvariant(text[^1]) switch { 'K' => 10, 'M' => 20, 'G' => 30, _ => 0 };
        bool valid = ulong.TryParse(shift == 0 ? text : text[..^1], NumberStyles.None, CultureInfo.InvariantCulture, out ulong count) && count <= ulong.MaxValue >> shift;
        bytes = valid ? count << shift : 0;
        return bytes >= SmallestSize;
    }
}
