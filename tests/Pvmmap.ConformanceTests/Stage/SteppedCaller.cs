using System.Collections.Concurrent;
using System.Globalization;
using Microsoft.Win32.SafeHandles;
using Pvmmap.Holder;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>programs/StepCaller: makes one call and stops at a step of it, or has the holder stop at one of the fill.</summary>
internal sealed class SteppedCaller : IDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(20);

    private readonly Line _line;
    private readonly BlockingCollection<string[]> _answers = [];
    private readonly TaskCompletionSource<SafeFileHandle> _control = new();
    private SafeFileHandle? _latest;
    private readonly TaskCompletionSource<int> _child = new();

    /// <summary>Starts it, through another command if one is given.</summary>
    public SteppedCaller(Theatre theatre, SteppedCall call, params string[] through)
    {
        Pid = theatre.Start([.. through, Program, .. call.Arguments(theatre.Door)]);
        _line = theatre.Await(Pid);
        new Thread(Listen) { IsBackground = true, Name = $"caller {Pid}" }.Start();
    }

    public static string Program
    {
        get
        {
            string program = Path.Combine(Theatre.RepositoryRoot, "artifacts/bin/steps/StepCaller");
            Assert.True(File.Exists(program), $"{program} is not there: run ./build steps first");
            return program;
        }
    }

    public int Pid { get; }

    /// <summary>The holder's number as far as the caller knows it; 0 before there is one.</summary>
    public int Holder { get; private set; }

    /// <summary>True once there is a control page.</summary>
    public bool HasControl => _control.Task.IsCompletedSuccessfully;

    public void Say(string line) => _line.Say(line);

    /// <summary>The next line that begins with one of the words; null if none comes, because the caller hangs or is gone.</summary>
    public string[]? Hear(params ReadOnlySpan<string> words)
    {
        while (_answers.TryTake(out string[]? answer, s_patience))
        {
            if (words.Contains(answer[0])) return answer;
            if (answer[0] == "gone") return null;
        }
        return null;
    }

    public int Child() => _child.Task.Wait(s_patience) ? _child.Task.Result : 0;

    /// <summary>Waits until the holder or the guardian stands at a step.</summary>
    public bool AwaitFill(FillStep step) =>
        _control.Task.Wait(s_patience) && Eventually.Becomes(() => Read(nameof(ControlPage.StoppedAt)) == (uint)step, (int)s_patience.TotalSeconds);

    public void StopFillAt(FillStep step) => Write(nameof(ControlPage.StopAt), (uint)step);

    /// <summary>Lets whoever stands at a step of the fill go on.</summary>
    public void LetFillGoOn() => Write(nameof(ControlPage.StopAt), 0);

    public void FinishFill() =>
        RandomAccess.Write(_latest!, BitConverter.GetBytes(ControlCommand.FinishNow), Offset(nameof(ControlPage.Command)));

    public ulong Read(string field)
    {
        if (!HasControl) return 0;
        byte[] bytes = new byte[sizeof(ulong)];
        int length = field == nameof(ControlPage.DestinationStart) ? sizeof(ulong) : sizeof(uint);
        // The region is that of the call's last attempt, the victims are those of the first.
        RandomAccess.Read(field == nameof(ControlPage.DestinationStart) ? _latest! : _control.Task.Result, bytes.AsSpan(0, length), Offset(field));
        return BitConverter.ToUInt64(bytes);
    }

    private void Write(string field, uint value) => RandomAccess.Write(_control.Task.Result, BitConverter.GetBytes(value), Offset(field));

    private static unsafe long Offset(string field)
    {
        ControlPage page;
        byte* at = field switch
        {
            nameof(ControlPage.StopAt) => (byte*)&page.StopAt,
            nameof(ControlPage.StoppedAt) => (byte*)&page.StoppedAt,
            nameof(ControlPage.Command) => (byte*)&page.Command,
            nameof(ControlPage.HolderPid) => (byte*)&page.HolderPid,
            nameof(ControlPage.GuardianPid) => (byte*)&page.GuardianPid,
            nameof(ControlPage.DestinationStart) => (byte*)&page.DestinationStart,
            _ => throw new ArgumentOutOfRangeException(nameof(field)),
        };
        return at - (byte*)&page;
    }

    private void Listen()
    {
        try
        {
            for (; ; )
            {
                string[] words = _line.Hear().Split(' ', 4);
                if (words[0] == "control")
                {
                    _latest = File.OpenHandle($"/proc/{Pid}/fd/{words[1]}", FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
                    _control.TrySetResult(_latest);
                }
                else if (words[0] == "child") _child.TrySetResult(int.Parse(words[1], CultureInfo.InvariantCulture));
                if (words[0] == "at") Holder = int.Parse(words[2], CultureInfo.InvariantCulture);
                _answers.Add(words);
            }
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException)
        {
            _answers.Add(["gone"]);
        }
    }

    /// <summary>Fails if the call fails, or does not return.</summary>
    /// <returns>The address that it returns; 0 of a capture.</returns>
    public ulong HearSuccess()
    {
        string[] done = Hear("done") ?? throw new InvalidOperationException("the call does not return");
        Assert.True(done[2] == "0", string.Join(' ', done));
        return Convert.ToUInt64(done[1], 16);
    }

    /// <summary>Kills it if it is still there.</summary>
    public void Dispose()
    {
        if (ProcessStatus.IsAlive(Pid))
        {
            Libc.Kill(Pid, Libc.SIGKILL);
            // A tracee that is killed ends with its tracer.
            Eventually.Becomes(() => !ProcessStatus.IsAlive(Pid), (int)s_patience.TotalSeconds);
        }
        _line.Dispose();
        _latest?.Dispose();
        if (HasControl) _control.Task.Result.Dispose();
    }
}
