using System.Globalization;
using System.IO.MemoryMappedFiles;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using Pvmmap.ConformanceTests.Stage;

// An ordinary .NET program: `DotnetApp SOCKET` allocates, collects, awaits timers and runs tasks all the time, and does what lines on the
// socket ask in between. Its work checks itself; "work" tells how much was done and how often a result was wrong.
using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
socket.Connect(new UnixDomainSocketEndPoint(args[0]));
using var stream = new NetworkStream(socket);
using var reader = new StreamReader(stream);
using var writer = new StreamWriter(stream) { AutoFlush = true, NewLine = "\n" };

long rounds = 0, wrong = 0;
for (int i = 0; i < 2; i++)
{
    _ = Task.Run(async () =>
    {
        for (; ; )
        {
            var table = Enumerable.Range(0, 5000).ToDictionary(n => n, n => n.ToString(CultureInfo.InvariantCulture));
            await Task.Delay(1);
            if (table.Sum(pair => int.Parse(pair.Value, CultureInfo.InvariantCulture)) != 5000 * 4999 / 2) Interlocked.Increment(ref wrong);
            Interlocked.Increment(ref rounds);
        }
    });
}

writer.WriteLine($"hello {Environment.ProcessId}");
while (reader.ReadLine() is { } line)
{
    string[] words = line.Split(' ');
    ulong[] n = [.. words.Skip(1).Select(word => ulong.Parse(word, CultureInfo.InvariantCulture))];
    writer.WriteLine(Answer(words[0], n));
}

unsafe string Answer(string command, ulong[] n)
{
    switch (command)
    {
        case "allocate":
            return $"ok {(ulong)NativeMemory.AlignedAlloc((nuint)n[0], 4096)}";
        case "array":
            byte[] pinned = GC.AllocateUninitializedArray<byte>((int)n[0] + 4096, pinned: true);
            Kept.Arrays.Add(pinned);
            return $"ok {((ulong)Marshal.UnsafeAddrOfPinnedArrayElement(pinned, 0) + 4095) & ~4095UL}";
        case "view": // of a file, or of memory alone
            string path = Path.GetTempFileName();
            MemoryMappedFile file = n[1] != 0 ? MemoryMappedFile.CreateFromFile(path, FileMode.Open, null, (long)n[0]) : MemoryMappedFile.CreateNew(null, (long)n[0]);
            File.Delete(path);
            MemoryMappedViewAccessor view = file.CreateViewAccessor(0, (long)n[0], n[2] != 0 ? MemoryMappedFileAccess.CopyOnWrite : MemoryMappedFileAccess.ReadWrite);
            Kept.Views.Add((file, view));
            byte* address = null;
            view.SafeMemoryMappedViewHandle.AcquirePointer(ref address);
            return $"ok {(ulong)address}";
        case "fill":
            Pattern.Fill(n[0], n[1], n[2], n[3], n[4]);
            return "ok";
        case "verify":
            Census seen = Pattern.Examine(n[0], n[1], n[2], n[3], n[4]);
            return $"ok {seen.Good} {seen.Zero} {seen.Wrong} {seen.SigBus} {seen.SegV} {seen.At} {(seen.At == 0 ? "-" : seen.Kind)}";
        case "collect":
            for (ulong i = 0; i < n[0]; i++) GC.Collect(2, GCCollectionMode.Forced, blocking: true, compacting: true);
            return $"ok {GC.CollectionCount(2)}";
        case "work":
            return $"ok {Interlocked.Read(ref rounds)} {Interlocked.Read(ref wrong)}";
        default:
            return "err 38";
    }
}

internal static class Kept
{
    public static readonly List<byte[]> Arrays = [];
    public static readonly List<(MemoryMappedFile File, MemoryMappedViewAccessor View)> Views = [];
}
