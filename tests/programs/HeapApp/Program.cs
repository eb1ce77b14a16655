using System.Globalization;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using HeapApp;

// A .NET program with a heap of known content: `HeapApp [SOCKET]` answers lines on the socket, or else on its standard input, and ends with it.
using Socket? socket = args.Length > 0 ? new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified) : null;
socket?.Connect(new UnixDomainSocketEndPoint(args[0]));
using var stream = socket is null ? null : new NetworkStream(socket);
TextReader reader = stream is null ? Console.In : new StreamReader(stream);
TextWriter writer = stream is null ? Console.Out : new StreamWriter(stream);

Say($"hello {Environment.ProcessId}");
while (reader.ReadLine() is { } line)
{
    string[] words = line.Split(' ');
    Say(Answer(words[0], [.. words.Skip(1).Select(word => int.Parse(word, CultureInfo.InvariantCulture))]));
}

void Say(string answer)
{
    writer.Write(answer + "\n");
    writer.Flush();
}

unsafe string Answer(string command, int[] n)
{
    switch (command)
    {
        case "graph": // a tree of 2^n - 1 nodes, each with a name and bytes of its own
            Kept.Tree = Node.Grow(n[0]);
            return "ok";
        case "arrays": // megabytes of arrays of a kilobyte
            for (int i = 0; i < n[0] << 10; i++) Kept.Arrays.Add(new byte[1024]);
            return "ok";
        case "native": // megabytes outside the heap, every page written
            nuint length = (nuint)n[0] << 20;
            byte* memory = (byte*)NativeMemory.AlignedAlloc(length, 4096);
            for (nuint at = 0; at < length; at += 4096) memory[at] = (byte)(at >> 12 | 1);
            return $"ok {(ulong)memory}";
        case "load": // threads that make objects of all kinds until told to stop
            Load.Start(n[0]);
            return "ok";
        case "calm":
            return $"ok {Load.Stop()}";
        case "collect":
            GC.Collect(2, GCCollectionMode.Forced, blocking: true, compacting: true);
            return $"ok {GC.CollectionCount(2)}";
        case "collections":
            return $"ok {GC.CollectionCount(0)} {GC.CollectionCount(1)} {GC.CollectionCount(2)}";
        case "beat": // a thread that does something each millisecond from now on
            Heartbeat.Start();
            return "ok";
        case "gap": // the longest time between two beats since it was last asked, in microseconds
            return $"ok {Heartbeat.TakeLongestGap()}";
        default:
            return "err 38";
    }
}

internal static class Kept
{
    public static readonly List<byte[]> Arrays = [];
    public static Node? Tree;
}
