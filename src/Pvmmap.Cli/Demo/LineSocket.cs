using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Pvmmap.Cli.Demo;

/// <summary>The short questions and answers, one line each, that the page server and the target exchange over TCP.</summary>
internal sealed class LineSocket : IDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(30);

    private readonly NetworkStream _stream;
    private readonly StreamReader _reader;

    private LineSocket(Socket socket)
    {
        _stream = new NetworkStream(socket, ownsSocket: true);
        _reader = new StreamReader(_stream, Encoding.ASCII, leaveOpen: true);
    }

    public static LineSocket Connect(int port)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        socket.Connect(IPAddress.Loopback, port);
        return new LineSocket(socket);
    }

    /// <summary>Takes the one peer that is expected.</summary>
    public static LineSocket Accept(Socket listener) => new(AcceptSocket(listener));

    /// <summary>A listening socket on a free port of 127.0.0.1.</summary>
    public static Socket Listen(out int port)
    {
        var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen();
        port = ((IPEndPoint)listener.LocalEndPoint!).Port;
        return listener;
    }

    /// <summary>Waits with a limit, so that no process outlives a peer that was killed.</summary>
    /// <exception cref="IOException">Nobody came.</exception>
    public static Socket AcceptSocket(Socket listener) =>
        listener.Poll(s_patience, SelectMode.SelectRead)
            ? listener.Accept()
            : throw new IOException("demo: nobody connected; see what ended the other process");

    public void Send(FormattableString line) => _stream.Write(Encoding.ASCII.GetBytes(FormattableString.Invariant(line) + "\n"));

    /// <returns>null when the peer has closed.</returns>
    public string? TryReceive() => _reader.ReadLine();

    /// <exception cref="IOException">The peer has closed.</exception>
    public string Receive() => TryReceive() ?? throw new IOException("demo: the other process ended too early; its message is above");

    public string Ask(FormattableString line)
    {
        Send(line);
        return Receive();
    }

    public void Dispose()
    {
        _reader.Dispose();
        _stream.Dispose();
    }
}
