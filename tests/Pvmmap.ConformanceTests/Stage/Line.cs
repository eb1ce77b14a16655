using System.Net.Sockets;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>The connection to a program on the stage: a line there, a line back.</summary>
public sealed class Line : IDisposable
{
    private readonly NetworkStream _stream;
    private readonly StreamReader _reader;
    private readonly StreamWriter _writer;

    public Line(Socket socket)
    {
        _stream = new NetworkStream(socket, ownsSocket: true) { ReadTimeout = (int)Patience.Of(60).TotalMilliseconds };
        _reader = new StreamReader(_stream);
        _writer = new StreamWriter(_stream) { AutoFlush = true, NewLine = "\n" };
    }

    /// <summary>The program has closed it, and said nothing more.</summary>
    public bool HasEnded => _stream.Socket.Poll(0, SelectMode.SelectRead) && _stream.Socket.Available == 0;

    /// <exception cref="EndOfStreamException">The program is gone.</exception>
    public string Hear() => _reader.ReadLine() ?? throw new EndOfStreamException("the program has gone");

    public void Say(string line) => _writer.WriteLine(line);

    public void Dispose() => _stream.Dispose();
}
