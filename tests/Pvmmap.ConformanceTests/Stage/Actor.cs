using System.Globalization;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>A process that answers questions over a socket: puppet, threads, notebook.py, DotnetApp.</summary>
public class Actor : AddressSpace, IDisposable
{
    private Line _line;
    private bool _killed;

    internal Actor(Theatre theatre, int pid, bool fromNursery)
    {
        Theatre = theatre;
        Pid = pid;
        FromNursery = fromNursery;
        _line = theatre.Await(pid);
    }

    public override int Pid { get; }

    protected Theatre Theatre { get; }

    /// <summary>False for children of actors and for children of the test's own.</summary>
    protected bool FromNursery { get; }

    /// <summary>Asks and waits for the answer: the words after "ok".</summary>
    public string[] Ask(FormattableString command)
    {
        Post(command);
        return Answer();
    }

    /// <summary>Asks without waiting; <see cref="Answer"/> takes the answer.</summary>
    public void Post(FormattableString command) => _line.Say(command.ToString(CultureInfo.InvariantCulture));

    public string[] Answer()
    {
        string[] words;
        try
        {
            words = _line.Hear().Split(' ');
        }
        catch (IOException e)
        {
            // a socket's end comes before the process's
            if (FromNursery) Eventually.Becomes(() => Theatre.Nursery.Ended(Pid) is not null, seconds: 2);
            string end = Theatre.Nursery.Ended(Pid) is { } code ? $"ended with {code} (negative: by a signal)" : "has not ended";
            throw new InvalidOperationException($"process {Pid} does not answer ({e.Message}); it {end}", e);
        }
        return words[0] == "ok" ? words[1..] : throw new InvalidOperationException($"process {Pid} says {string.Join(' ', words)}");
    }

    public ulong Number(FormattableString command) => ulong.Parse(Ask(command)[0], CultureInfo.InvariantCulture);

    public override long Syscall(long number, params ReadOnlySpan<long> arguments)
    {
        Span<long> six = stackalloc long[6];
        arguments.CopyTo(six);
        return long.Parse(Ask($"syscall {number} {six[0]} {six[1]} {six[2]} {six[3]} {six[4]} {six[5]}")[0], CultureInfo.InvariantCulture);
    }

    public override void Fill(ulong address, ulong length, ulong seed, ulong firstPage = 0, ulong step = 1) =>
        Ask($"fill {address} {length} {seed} {firstPage} {step}");

    public override Census Examine(ulong address, ulong length, ulong seed, ulong firstPage = 0, ulong step = 1) =>
        ToCensus(Ask($"verify {address} {length} {seed} {firstPage} {step}"));

    public static Census ToCensus(string[] words)
    {
        ulong[] n = [.. words[..6].Select(word => ulong.Parse(word, CultureInfo.InvariantCulture))];
        return new Census(n[0], n[1], n[2], n[3], n[4], n[5], words[6]);
    }

    public override byte[] Read(ulong address, int length) => Convert.FromHexString(Ask($"peek {address} {length}")[0]);

    public override void Write(ulong address, ReadOnlySpan<byte> bytes)
    {
        string hex = Convert.ToHexString(bytes);
        Ask($"poke {address} {hex}");
    }

    public override void Touch(ulong address, ulong length, ulong stride = Page) => Ask($"touch {address} {length} {stride}");

    /// <summary>After an exec the same process comes to the door again.</summary>
    public void Reconnect()
    {
        _line.Dispose();
        _line = Theatre.Await(Pid);
    }

    /// <summary>Kills the process with SIGKILL and waits until the kernel has taken its memory down.</summary>
    public void Kill()
    {
        Libc.Kill(Pid, Libc.SIGKILL);
        _killed = true;
        if (FromNursery) Theatre.Nursery.WaitForEnd(Pid);
        else Eventually.Holds(() => ProcessStatus.State(Pid) is null or 'Z' or 'X', $"process {Pid} dies");
    }

    public void Dispose()
    {
        // once it is gone the number may be another's
        if (!_killed && ProcessStatus.State(Pid) is not (null or 'Z' or 'X') && !(FromNursery && Theatre.Nursery.Ended(Pid) is not null)) Kill();
        _line.Dispose();
        GC.SuppressFinalize(this);
    }
}
