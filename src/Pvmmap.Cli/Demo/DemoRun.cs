using System.Buffers.Binary;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;

namespace Pvmmap.Cli.Demo;

/// <summary>One run: a fresh page server and a fresh target, the input sent once over TCP.</summary>
internal static class DemoRun
{
    private const int SendBufferBytes = 1 << 20;

    public static DemoOutcome Execute(DemoInput input, DemoMethod method, bool smallPages)
    {
        string self = Environment.ProcessPath!;
        using MemoryGauge gauge = MemoryGauge.Create();
        using Process target = gauge.Start(self, [RestoreTarget.Name]);
        Process? pageServer = null;
        try
        {
            int targetPort = Port(target);
            pageServer = gauge.Start(self, [
                PageServer.Name, "--target", Text(target.Id), "--port", Text(targetPort), "--method", method.ToString(),
                .. smallPages ? (string[])["--small-pages"] : []]);
            string sent = Send(input, Port(pageServer));
            string? report = pageServer.StandardOutput.ReadLine();
            pageServer.WaitForExit();
            target.WaitForExit();
            if (report is null || pageServer.ExitCode != 0 || target.ExitCode != 0)
            {
                throw new IOException(
                    $"demo: the page server ended with {Ending(pageServer)}, the target with {Ending(target)}; "
                    + "a message of theirs is above, else see dmesg (out of memory?)");
            }

            DemoMeasurement measured = JsonSerializer.Deserialize(report, DemoJson.Default.DemoMeasurement)!;
            return new DemoOutcome(measured, pageServer.Id, target.Id, gauge.Peak, gauge.Method, measured.Sha256 == sent);
        }
        finally
        {
            End(pageServer);
            End(target);
            pageServer?.Dispose();
        }
    }

    private static string Send(DemoInput input, int port)
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { SendBufferSize = SendBufferBytes };
        socket.Connect(IPAddress.Loopback, port);
        using var stream = new NetworkStream(socket);
        using var buffered = new BufferedStream(stream, SendBufferBytes);
        Span<byte> header = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(header, input.Length);
        buffered.Write(header);
        return input.Send(buffered);
    }

    private static int Port(Process process) => int.TryParse(process.StandardOutput.ReadLine(), CultureInfo.InvariantCulture, out int port)
        ? port
        : throw new IOException("demo: a process of the demo did not start; its message is above");

    private static void End(Process? process)
    {
        if (process is null || process.HasExited) return;
        process.Kill();
        process.WaitForExit();
    }

    private static string Ending(Process process) => process.ExitCode > 128 ? $"signal {process.ExitCode - 128}" : $"exit code {process.ExitCode}";

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}

/// <summary>A run seen from outside.</summary>
internal sealed record DemoOutcome(DemoMeasurement Measured, int PageServerPid, int TargetPid, ulong Peak, string PeakMethod, bool Equal);
