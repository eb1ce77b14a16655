using System.Diagnostics;
using System.Net.Sockets;
using System.Text;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>Debian's redis-server as source: its heap in another process, byte for byte, and it never notices.</summary>
public sealed class RedisTests(Theatre theatre) : Scene(theatre)
{
    [Fact]
    public void Its_heap_is_copied_through_a_quiet_period()
    {
        (int redis, string door) = StartRedis(keys: 100_000);
        Puppet target = NewPuppet();
        ProcessRecord before = TakeWithoutClients(redis, door);
        Vma[] heap = Heap(redis);
        Assert.True(heap.Aggregate(0UL, (sum, vma) => sum + vma.Resident) > 20 * MiB, "redis holds too little to be a test");
        ulong compared = 0, moving = 0;
        foreach (Vma vma in heap)
        {
            byte[] earlier = ReadMemory(redis, vma.Range);
            MmapResult result = Call(new Stranger(redis), target, vma.Range.Start, vma.Range.Length);
            byte[] later = ReadMemory(redis, vma.Range);
            AssertCompletes(result);
            byte[] copy = ReadMemory(target.Pid, new PageRange(result.Address, result.Address + result.Length));
            for (int page = 0; page < copy.Length; page += (int)Page)
            {
                ReadOnlySpan<byte> was = earlier.AsSpan(page, (int)Page), now = later.AsSpan(page, (int)Page), got = copy.AsSpan(page, (int)Page);
                compared++;
                // ten times a second redis looks at the clock and writes a few pages
                if (!was.SequenceEqual(now)) { moving++; continue; }
                if (!got.SequenceEqual(now)) Assert.Fail($"page at 0x{vma.Range.Start + (ulong)page:x} of {vma.Range} differs: {Kind(got, now)}");
            }
        }
        Assert.True(moving < compared / 100, $"{moving} of {compared} pages changed: not a quiet period");
        Assert.Equal("+PONG", Ask(door, "PING"));
        Assert.Equal(":100000", Ask(door, "DBSIZE"));
        before.AssertUnchanged(Everything);
    }

    [Fact]
    public void Under_load_it_keeps_answering()
    {
        (int redis, string door) = StartRedis(keys: 50_000);
        Machine.RequireProgram("redis-benchmark");
        Puppet target = NewPuppet();
        using Process benchmark = Process.Start(new ProcessStartInfo(
            "redis-benchmark", ["-s", door, "-n", "150000", "-c", "20", "-r", "50000", "-d", "100", "-t", "set,get,incr,lpush", "-q"])
        { RedirectStandardOutput = true, RedirectStandardError = true })!;
        Task<string> output = benchmark.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        int calls = 0;
        while (!benchmark.HasExited)
        {
            Vma vma = Heap(redis).MaxBy(each => each.Resident)!;
            MmapResult result;
            try
            {
                result = Call(new Stranger(redis), target, vma.Range.Start, vma.Range.Length);
            }
            catch (PvmmapException e) when (e.Errno == Errno.EFAULT)
            {
                continue; // jemalloc gave the range back meanwhile
            }
            AssertCompletes(result, seconds: 60);
            target.Unmap(result.Address, result.Length);
            calls++;
        }
        benchmark.WaitForExit();
        Assert.Equal(0, benchmark.ExitCode);
        Assert.True(calls > 5, $"only {calls} calls under load");
        Assert.Equal("+PONG", Ask(door, "PING"));
        Assert.Null(Theatre.Nursery.Ended(redis));
    }

    [Fact]
    public async Task A_hundred_snapshots_under_load()
    {
        const int times = 100, quiet = 64, size = 20_000, requests = 150_000;
        (int redis, string door) = StartRedis(keys: 50_000);
        Machine.RequireProgram("redis-benchmark");
        byte[][] values = [.. Enumerable.Range(0, quiet).Select(key => Value(key, size))];
        for (int key = 0; key < quiet; key++) Assert.Equal("+OK", Ask(door, $"SET quiet:{key} {Encoding.ASCII.GetString(values[key])}"));
        // "Value at:0x7f2e40a0d6e0 refcount:1 encoding:raw ..."
        ulong[] objects = [.. Enumerable.Range(0, quiet).Select(key => Convert.ToUInt64(Ask(door, $"DEBUG OBJECT quiet:{key}").Split("at:")[1].Split(' ')[0], 16))];
        ProcessRecord before = TakeWithoutClients(redis, door);
        Assert.Equal("+OK", Ask(door, "CONFIG RESETSTAT"));
        int taken = 0, benchmarks = 0;
        ulong[] addresses = new ulong[quiet];
        byte[] read = new byte[size], pointer = new byte[8];
        while (taken < times)
        {
            using Process benchmark = Process.Start(new ProcessStartInfo(
                "redis-benchmark", ["-s", door, "-n", $"{requests}", "-c", "20", "-r", "50000", "-d", "100", "-t", "set,get", "-q"])
            { RedirectStandardOutput = true, RedirectStandardError = true })!;
            Task<string> output = benchmark.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken), errors = benchmark.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
            benchmarks++;
            for (; !benchmark.HasExited && taken < times; taken++)
            {
                using Snapshots.ProcessSnapshot snapshot = Snapshots.ProcessSnapshot.Capture(redis);
                for (int key = 0; key < quiet; key++)
                {
                    // robj: type, encoding and age in 4 bytes, references in 4, then the address of the string
                    snapshot.Read(objects[key] + 8, pointer);
                    ulong address = BitConverter.ToUInt64(pointer);
                    if (taken == 0) addresses[key] = address;
                    Assert.Equal(addresses[key], address);
                    snapshot.Read(address, read);
                    if (!read.AsSpan().SequenceEqual(values[key])) Assert.Fail($"snapshot {taken}, key {key} differs: {Kind(read, values[key])}");
                }
            }
            benchmark.WaitForExit();
            Assert.Equal((0, ""), (benchmark.ExitCode, await errors));
            Assert.DoesNotContain("rror", await output, StringComparison.Ordinal);
        }
        string statistics = AskAll(door, "INFO commandstats");
        foreach (string command in (string[])["set", "get"])
        {
            string line = statistics.Split("\r\n").Single(line => line.StartsWith($"cmdstat_{command}:", StringComparison.Ordinal));
            Assert.StartsWith($"cmdstat_{command}:calls={benchmarks * requests},", line, StringComparison.Ordinal);
            Assert.EndsWith("rejected_calls=0,failed_calls=0", line, StringComparison.Ordinal);
        }
        Assert.Equal(":1", Ask(door, $"EXISTS quiet:{quiet - 1}"));
        before.AssertUnchanged(Everything);
    }

    /// <summary>Text that differs from key to key and from place to place.</summary>
    private static byte[] Value(int key, int size)
    {
        byte[] value = new byte[size];
        ulong word = (ulong)key + 1;
        for (int i = 0; i < size; i++)
        {
            word = unchecked(word * 6364136223846793005 + 1442695040888963407);
            value[i] = (byte)('a' + (int)(word >> 33) % 26);
        }
        return value;
    }

    private static PageRange Everything => new(0, ulong.MaxValue & ~(Page - 1));

    private (int Pid, string Door) StartRedis(int keys)
    {
        Machine.RequireProgram("redis-server");
        string folder = Theatre.NewFolder($"redis-{keys}"), door = Path.Combine(folder, "socket");
        int pid = NewProgram(
            "redis-server", "--port", "0", "--unixsocket", door, "--save", "", "--dir", folder, "--enable-debug-command", "yes", "--daemonize", "no");
        Eventually.Holds(() => File.Exists(door) && Answers(door), "redis-server answers");
        Assert.Equal("+OK", Ask(door, $"DEBUG POPULATE {keys} key 200"));
        return (pid, door);
    }

    // redis-server closes its end of a connection some time after we have closed ours.
    private static ProcessRecord TakeWithoutClients(int redis, string door)
    {
        // Num RefCount Protocol Flags Type St Inode Path; the state of what is connected is 03.
        Eventually.Holds(
            () => !File.ReadLines("/proc/net/unix").Any(line => line.EndsWith(' ' + door, StringComparison.Ordinal) && line.Contains(" 0001 03 ", StringComparison.Ordinal)),
            "redis-server has closed all connections");
        return ProcessRecord.TakeAtRest(redis, Everything);
    }

    private static Vma[] Heap(int pid) =>
        [.. Smaps.Read(pid).Where(vma => vma is { IsPrivateAnonymous: true, Permissions: "rw-p", Name: "" or "[heap]" } && vma.Resident > 0)];

    private static bool Answers(string door)
    {
        try
        {
            return Ask(door, "PING") == "+PONG";
        }
        // Not there yet, or there and not ready: what is said to it then may be thrown away with the connection.
        catch (Exception e) when (e is SocketException or IOException { InnerException: SocketException })
        {
            return false;
        }
    }

    private static string Ask(string door, string command)
    {
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Connect(new UnixDomainSocketEndPoint(door));
        socket.Send(Encoding.ASCII.GetBytes(command + "\r\n"));
        using var reader = new StreamReader(new NetworkStream(socket));
        return reader.ReadLine() ?? "";
    }

    /// <summary>The same for an answer of many lines: "$LENGTH", and so many bytes.</summary>
    private static string AskAll(string door, string command)
    {
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Connect(new UnixDomainSocketEndPoint(door));
        socket.Send(Encoding.ASCII.GetBytes(command + "\r\n"));
        using var reader = new StreamReader(new NetworkStream(socket), Encoding.ASCII);
        char[] text = new char[int.Parse(reader.ReadLine().AsSpan(1), System.Globalization.CultureInfo.InvariantCulture)];
        reader.ReadBlock(text);
        return new string(text);
    }

    private static byte[] ReadMemory(int pid, PageRange range)
    {
        byte[] bytes = new byte[range.Length];
        using FileStream memory = File.OpenRead($"/proc/{pid}/mem");
        memory.Position = (long)range.Start;
        memory.ReadExactly(bytes);
        return bytes;
    }

    private static string Kind(ReadOnlySpan<byte> got, ReadOnlySpan<byte> expected)
    {
        int first = got.CommonPrefixLength(expected);
        return got.IndexOfAnyExcept((byte)0) < 0 ? "zeros" : $"first at byte {first}: {got[first]:x2}, not {expected[first]:x2}";
    }

    /// <summary>A process that takes no orders.</summary>
    private sealed class Stranger(int pid) : AddressSpace
    {
        public override int Pid => pid;

        public override long Syscall(long number, params ReadOnlySpan<long> arguments) => throw new NotSupportedException();

        public override void Fill(ulong address, ulong length, ulong seed, ulong firstPage = 0, ulong step = 1) =>
            throw new NotSupportedException();

        public override Census Examine(ulong address, ulong length, ulong seed, ulong firstPage = 0, ulong step = 1) =>
            throw new NotSupportedException();

        public override byte[] Read(ulong address, int length) => ReadMemory(pid, new PageRange(address, address + (ulong)length));

        public override void Write(ulong address, ReadOnlySpan<byte> bytes) => throw new NotSupportedException();

        public override void Touch(ulong address, ulong length, ulong stride = Page) => throw new NotSupportedException();
    }
}
