using System.CommandLine;
using System.Globalization;
using System.Net.Sockets;
using Pvmmap.Linux;

namespace Pvmmap.Cli.Demo;

/// <summary>
/// The demo's target process: gives the page server an address, then looks at what it finds there. It knows nothing of the library; what is
/// pushed into it comes from outside.
/// </summary>
internal static class RestoreTarget
{
    public const string Name = "demo-target";

    private const int PR_SET_PTRACER = 0x59616d61;
    private const long PR_SET_PTRACER_ANY = -1;

    public static Command CreateCommand()
    {
        var command = new Command(Name, "The target process of the demo.") { Hidden = true };
        command.SetAction(_ => Run());
        return command;
    }

    private static int Run()
    {
        // Where Yama lets only ancestors trace, the target itself may name its page server: any process, for one demo.
        SystemCall.Invoke(SystemCall.SYS_prctl, PR_SET_PTRACER, PR_SET_PTRACER_ANY);
        using Socket listener = LineSocket.Listen(out int port);
        Console.Out.WriteLine(port.ToString(CultureInfo.InvariantCulture));
        using LineSocket pageServer = LineSocket.Accept(listener);
        AnonymousMemory? memory = null;
        try
        {
            while (pageServer.TryReceive() is { } line)
            {
                string[] words = line.Split(' ');
                switch (words)
                {
                    case [Requests.Map, var length]:
                        memory = AnonymousMemory.Map(ulong.Parse(length, CultureInfo.InvariantCulture));
                        pageServer.Send($"{memory.Address}");
                        break;
                    case [Requests.Reserve, var length]:
                        memory = AnonymousMemory.Reserve(ulong.Parse(length, CultureInfo.InvariantCulture));
                        pageServer.Send($"{memory.Address}");
                        break;
                    case [Requests.Check] when memory is not null:
                        pageServer.Send($"{memory.Sha256()}");
                        break;
                    case [Requests.Write] when memory is not null:
                        memory.WriteToEachPage();
                        pageServer.Send($"{memory.Pages}");
                        break;
                    default:
                        throw new IOException($"demo: the target does not understand '{line}'");
                }
            }

            return ExitCode.Done;
        }
        finally
        {
            memory?.Dispose();
        }
    }

    /// <summary>What the page server may ask.</summary>
    internal static class Requests
    {
        /// <summary>"map LENGTH": ordinary memory; the answer is its address.</summary>
        public const string Map = "map";

        /// <summary>"reserve LENGTH": an address range; the answer is its start.</summary>
        public const string Reserve = "reserve";

        /// <summary>The answer is the SHA-256 of the memory.</summary>
        public const string Check = "check";

        /// <summary>Changes a byte in each page; the answer is the number of pages.</summary>
        public const string Write = "write";
    }
}
