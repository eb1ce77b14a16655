using System.Runtime.InteropServices;
using Pvmmap.ConformanceTests.Stage;
using Pvmmap.Snapshots;

namespace Pvmmap.ConformanceTests;

/// <summary>examples/HashTableSave: what it saves while its writers write is read here by code of our own.</summary>
public sealed class HashTableSaveTests(Theatre theatre) : Scene(theatre)
{
    private const int Saves = 3;

    [Fact]
    public void Each_save_from_a_snapshot_is_of_one_instant()
    {
        string folder = Theatre.NewFolder($"saves-{Guid.NewGuid():N}");
        int pid = NewProgram(Theatre.HashTableSave, "--size", "32M", "--writers", "2", "--saves", $"{Saves}", "--keep-all", "--torn", "--folder", folder);
        Assert.Equal(0, Theatre.Nursery.WaitForEnd(pid, seconds: 120));
        Assert.Equal(
            Enumerable.Range(1, Saves).SelectMany(i => new[] { $"table.locked.{i}", $"table.snapshot.{i}", $"table.torn.{i}" }).Order(StringComparer.Ordinal),
            Directory.GetFiles(folder).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        ulong last = 0;
        for (int i = 1; i <= Saves; i++)
        {
            Saved saved = Saved.Read(Path.Combine(folder, $"table.snapshot.{i}")), plain = Saved.Read(Path.Combine(folder, $"table.locked.{i}"));
            Assert.True(saved.Holds, $"save {i} of a snapshot: {saved}");
            Assert.True(plain.Holds, $"save {i} under the lock: {plain}");
            // they wrote all the time, and each save has what was written before it
            Assert.True(last < saved.Writes && saved.Writes < plain.Writes, $"{last} writes, then {saved.Writes}, then {plain.Writes}");
            last = plain.Writes;
        }
        // else nothing would have been shown
        Assert.Contains(Enumerable.Range(1, Saves), i => !Saved.Read(Path.Combine(folder, $"table.torn.{i}")).Holds);
        string read = Assert.Single(File.ReadLines(Theatre.Log), line => line.StartsWith("read back", StringComparison.Ordinal));
        Assert.Equal(["read", "back", "good", "good", "BROKEN"], read.Split(' ', StringSplitOptions.RemoveEmptyEntries));
        Assert.DoesNotContain(ProcessSnapshot.Running(), listing => listing.ProcessId == pid);
    }

    [Fact]
    public void Killed_in_a_save_it_leaves_the_save_before_and_no_keeper()
    {
        string folder = Theatre.NewFolder($"saves-{Guid.NewGuid():N}"), file = Path.Combine(folder, "table.snapshot");
        int pid = NewProgram(Theatre.HashTableSave, "--size", "128M", "--saves", "1000", "--folder", folder);
        SnapshotListing? under = null;
        Eventually.Holds(
            () => File.Exists(file) && (under = ProcessSnapshot.Running().FirstOrDefault(listing => listing.ProcessId == pid && listing.OwnerPid == pid)) is not null,
            "a save is under way, after one that is done", seconds: 60);
        Libc.Kill(pid, Libc.SIGKILL);
        Eventually.Holds(() => !ProcessStatus.IsAlive(under!.KeeperPid), "the keeper ends with its owner");
        Saved saved = Saved.Read(file);
        Assert.True(saved.Holds, $"{saved}");
    }

    [Fact]
    public void Errors_are_one_line()
    {
        string folder = Theatre.NewFolder($"saves-{Guid.NewGuid():N}"), file = Path.Combine(folder, "file");
        File.WriteAllText(file, "");
        AssertOneLine(2, "--size", "--size", "12");
        AssertOneLine(2, "--frequency", "--frequency", "3");
        AssertOneLine(1, "smaller --size", "--size", "1000000G");
        AssertOneLine(1, file, "--size", "1M", "--folder", file);
        AssertOneLine(1, "/proc/nowhere", "--size", "1M", "--folder", "/proc/nowhere");
    }

    [Fact]
    public void A_full_disk_is_one_line_and_leaves_nothing()
    {
        Machine.RequireRoot();
        string folder = Theatre.NewFolder($"saves-{Guid.NewGuid():N}");
        Borrow(new Restoration($"! grep -q ' {folder} ' /proc/mounts || umount {folder}"));
        (int code, string output) = Theatre.Run("mount", "-t", "tmpfs", "-o", "size=4m", "none", folder);
        Machine.Require(code == 0, $"needs to mount a tmpfs: {output}");
        AssertOneLine(1, "No space left", "--size", "8M", "--folder", folder);
        Assert.Empty(Directory.GetFileSystemEntries(folder));
    }

    private static void AssertOneLine(int expected, string word, params string[] arguments)
    {
        (int code, string output) = Theatre.Run(Theatre.HashTableSave, arguments);
        Assert.True(code == expected && output.EndsWith('\n') && output.Count(letter => letter == '\n') == 1, $"{code}: {output}");
        Assert.Contains(word, output, StringComparison.Ordinal);
    }

    /// <summary>A file as the example describes it: a page with magic, slots, count, total, writes, next key; then slots of key, balance, writes and five words of digest.</summary>
    private sealed record Saved(ulong Count, ulong Writes, long CountOff, long TotalOff, long WritesOff, int Halves, int Twice)
    {
        private const int SlotWords = 8;

        public bool Holds => this is { Count: > 1000, CountOff: 0, TotalOff: 0, WritesOff: 0, Halves: 0, Twice: 0 };

        public static Saved Read(string path)
        {
            byte[] bytes = File.ReadAllBytes(path);
            ReadOnlySpan<ulong> header = MemoryMarshal.Cast<byte, ulong>(bytes.AsSpan(0, (int)Page)), slots = MemoryMarshal.Cast<byte, ulong>(bytes.AsSpan((int)Page));
            Assert.Equal(BitConverter.ToUInt64("HashSave"u8), header[0]);
            Assert.Equal(header[1] * SlotWords, (ulong)slots.Length);
            HashSet<ulong> keys = [];
            ulong count = 0, writes = 0;
            long total = 0;
            int halves = 0, twice = 0;
            for (int i = 0; i < slots.Length; i += SlotWords)
            {
                ReadOnlySpan<ulong> slot = slots.Slice(i, SlotWords);
                if (slot[0] == 0) continue;
                count++;
                total += (long)slot[1];
                writes += slot[2];
                if (!keys.Add(slot[0]) || slot[0] >= header[5]) twice++;
                ulong digest = Mix(slot[0] ^ Mix(slot[1]) ^ Mix(~slot[2]));
                for (int word = 0; word < SlotWords - 3; word++)
                {
                    if (slot[3 + word] == digest + (ulong)word) continue;
                    halves++;
                    break;
                }
            }
            return new Saved(count, header[4], (long)(count - header[2]), total - (long)header[3], (long)(writes - header[4]), halves, twice);
        }

        private static ulong Mix(ulong x)
        {
            x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
            x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
            return x ^ (x >> 31);
        }
    }
}
