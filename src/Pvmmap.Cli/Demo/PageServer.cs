using System.Buffers.Binary;
using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Net.Sockets;
using System.Text.Json;
using static Pvmmap.Cli.Demo.RestoreTarget;

namespace Pvmmap.Cli.Demo;

/// <summary>
/// The demo's page server: receives data over TCP into anonymous memory, asks the target for an address, puts the data there and prints
/// what it measured.
/// </summary>
internal static class PageServer
{
    public const string Name = "demo-page-server";

    private const int ReceiveBufferBytes = 1 << 20;

    public static Command CreateCommand()
    {
        var target = new Option<int>("--target") { Required = true };
        var port = new Option<int>("--port") { Required = true };
        var method = new Option<DemoMethod>("--method") { Required = true };
        var smallPages = new Option<bool>("--small-pages");
        var command = new Command(Name, "The page server of the demo.") { target, port, method, smallPages };
        command.Hidden = true;
        command.SetAction(parsed => Run(parsed.GetValue(target), parsed.GetValue(port), parsed.GetValue(method), parsed.GetValue(smallPages)));
        return command;
    }

    private static int Run(int targetPid, int targetPort, DemoMethod method, bool smallPages)
    {
        using Socket listener = LineSocket.Listen(out int port);
        Console.Out.WriteLine(port.ToString(CultureInfo.InvariantCulture));
        using LineSocket target = LineSocket.Connect(targetPort);
        using AnonymousMemory memory = Receive(listener, smallPages);
        DemoMeasurement measured = method switch
        {
            DemoMethod.Keep => PushAndKeep(memory, targetPid, target),
            DemoMethod.Release => Push(memory, targetPid, target, MmapFlags.None),
            DemoMethod.HandOver => Push(memory, targetPid, target, MmapFlags.Move),
            _ => WriteAndRelease(memory, targetPid, target),
        };
        Console.Out.WriteLine(JsonSerializer.Serialize(measured, DemoJson.Default.DemoMeasurement));
        return ExitCode.Done;
    }

    private static AnonymousMemory Receive(Socket listener, bool smallPages)
    {
        using Socket sender = LineSocket.AcceptSocket(listener);
        // A small, fixed window: the buffers of the socket are counted among this process's memory.
        sender.ReceiveBufferSize = ReceiveBufferBytes;
        Span<byte> header = stackalloc byte[sizeof(ulong)];
        for (int got = 0; got < header.Length;) got += ReceiveSome(sender, header[got..]);
        ulong length = BinaryPrimitives.ReadUInt64LittleEndian(header);
        AnonymousMemory memory = smallPages ? AnonymousMemory.MapSmall(length) : AnonymousMemory.MapHuge(length);
        for (ulong offset = 0; offset < memory.Length;) offset += (ulong)ReceiveSome(sender, memory.Slice(offset));
        return memory;
    }

    private static int ReceiveSome(Socket socket, Span<byte> buffer) =>
        socket.Receive(buffer) is > 0 and var got ? got : throw new IOException("demo: the sender ended before all data had come");

    /// <summary>The call, then every check of isolation that both sides can make: nobody writes into the other's copy.</summary>
    private static DemoMeasurement PushAndKeep(AnonymousMemory memory, int targetPid, LineSocket target)
    {
        string before = memory.Sha256();
        ulong address = Address(target.Ask($"{Requests.Reserve} {memory.Length}"));
        long start = Stopwatch.GetTimestamp();
        MmapResult result = ProcessVm.Mmap(-targetPid, memory.Address, memory.Length, address, MmapFlags.Fixed);
        TimeSpan call = Stopwatch.GetElapsedTime(start);
        // Asked at once, so that the target reads while the fill is still going on.
        string seen = target.Ask($"{Requests.Check}");
        TimeSpan verified = Stopwatch.GetElapsedTime(start);
        target.Ask($"{Requests.Write}");
        bool sourceUnchanged = memory.Sha256() == before;
        string written = target.Ask($"{Requests.Check}");
        memory.WriteToEachPage();
        bool targetUnchanged = target.Ask($"{Requests.Check}") == written && written != seen;
        using Duplication fill = result.Duplication;
        fill.Wait(Timeout.InfiniteTimeSpan);
        return new DemoMeasurement
        {
            Address = address,
            Call = call,
            Verified = verified,
            Sha256 = seen,
            SourceUnchanged = sourceUnchanged,
            TargetUnchanged = targetUnchanged,
            Notes = result.Notes,
        };
    }

    /// <summary>As a page server would: push, release (a move has done that), and the target uses its memory from then on.</summary>
    private static DemoMeasurement Push(AnonymousMemory memory, int targetPid, LineSocket target, MmapFlags mode)
    {
        ulong address = Address(target.Ask($"{Requests.Reserve} {memory.Length}"));
        long start = Stopwatch.GetTimestamp();
        MmapResult result = ProcessVm.Mmap(-targetPid, memory.Address, memory.Length, address, MmapFlags.Fixed | mode);
        TimeSpan call = Stopwatch.GetElapsedTime(start);
        bool unmapped = mode == MmapFlags.Move && memory.HandOver();
        memory.Dispose();
        target.Send($"{Requests.Check}");
        using Duplication fill = result.Duplication;
        fill.Wait(Timeout.InfiniteTimeSpan);
        TimeSpan complete = Stopwatch.GetElapsedTime(start);
        if (fill.State != DuplicationState.Complete) throw new IOException($"demo: the fill ended as '{fill.State.Word()}'");
        string seen = target.Receive();
        return new DemoMeasurement
        {
            Address = address,
            Call = call,
            Complete = complete,
            Verified = Stopwatch.GetElapsedTime(start),
            TargetStopped = result.TargetStopTime,
            Sha256 = seen,
            SourceUnmapped = unmapped,
            Notes = result.Notes,
        };
    }

    private static DemoMeasurement WriteAndRelease(AnonymousMemory memory, int targetPid, LineSocket target)
    {
        ulong address = Address(target.Ask($"{Requests.Map} {memory.Length}"));
        long start = Stopwatch.GetTimestamp();
        memory.WriteTo(targetPid, address);
        TimeSpan call = Stopwatch.GetElapsedTime(start);
        memory.Dispose();
        string seen = target.Ask($"{Requests.Check}");
        return new DemoMeasurement { Address = address, Call = call, Complete = call, Verified = Stopwatch.GetElapsedTime(start), Sha256 = seen };
    }

    private static ulong Address(string answer) => ulong.Parse(answer, CultureInfo.InvariantCulture);
}
