using System.Diagnostics;
using System.Globalization;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>
/// The process that traces for the caller is killed, at any moment of a call: everything it held goes on, and the call fails, or had succeeded. It has no
/// steps at which it could be stopped, so that the moments are tried: most of them those in which its children have just been born.
/// </summary>
public sealed class TracerKilledTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 2 * MiB;
    private const int Rounds = 60, LongestMicroseconds = 4000;

    private const ulong Replaced = 2;

    public static TheoryData<Mode, Way> ModesAndCallers => new MatrixTheoryData<Mode, Way>(Modes.All, [Way.Push, Way.Pull]);

    public static TheoryData<Mode, MmapFlags> ModesAndFills => new MatrixTheoryData<Mode, MmapFlags>(Modes.All, [MmapFlags.None, MmapFlags.Populate]);

    [Theory]
    [MemberData(nameof(ModesAndCallers))]
    public async Task Whatever_it_was_doing(Mode mode, Way way)
    {
        Puppet source = NewPuppet(), target = NewPuppet(), caller = (way == Way.Push ? source : target).LoadLibrary();
        Puppet other = way == Way.Push ? target : source;
        // Two VMAs: what a move looks at first is the first page of each.
        ulong at = source.MapFilled(Length, 1);
        source.Advise(at + (Length / 2), Length / 2, Madv.DontDump);
        Random random = new(1);
        int failed = 0;
        for (int round = 0; round < Rounds; round++)
        {
            using CancellationTokenSource over = new();
            int children = random.Next(4), delay = children == 0 ? random.Next(LongestMicroseconds) : random.Next(30);
            Task killer = Task.Factory.StartNew(() => Kill(caller.Pid, children, delay, over.Token), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
            (long result, Errno errno) = caller.Call(way == Way.Push ? -target.Pid : source.Pid, at, Length, 0, mode.Flag());
            await over.CancelAsync();
            await killer;
            if (errno == Errno.None)
            {
                target.AssertContent((ulong)result, Length, 1);
                target.Unmap((ulong)result, Length);
                if (mode == Mode.Copy) continue;
                source.AssertTaken(at, Length, 1);
                at = source.MapFilled(Length, 1);
                source.Advise(at + (Length / 2), Length / 2, Madv.DontDump);
                continue;
            }
            Assert.True(errno == Errno.EAGAIN, $"{errno} in round {round}, killed {delay} us after child {children}");
            failed++;
            source.AssertContent(at, Length, 1);
            Assert.Equal(2, Smaps.ReadMaps(source.Pid).Count(vma => vma.Range.Overlaps(new PageRange(at, at + Length))));
            Eventually.Holds(() => Ours(source) + Ours(target) == 0, "nothing of ours is mapped in either", 6);
            Eventually.Holds(() => ProcessStatus.State(other.Pid) == 'S', "the other one waits for its next command", 6);
        }
        Assert.True(failed >= Rounds / 10, $"only {failed} of {Rounds} calls lost their tracer");
        Leftovers.AssertNone(Theatre, [], 6);
    }

    /// <summary>With FIXED the target has what it had, or all that is to be in its place: nothing that it would not know of.</summary>
    [Theory]
    [MemberData(nameof(ModesAndFills))]
    public async Task What_is_to_be_replaced(Mode mode, MmapFlags fill)
    {
        Puppet source = NewPuppet().LoadLibrary(), target = NewPuppet();
        ulong at = source.MapFilled(Length, 1), there = target.MapFilled(Length, Replaced);
        ulong mapped = Mapped(target);
        Random random = new(1);
        int failed = 0;
        for (int round = 0; round < Rounds; round++)
        {
            using CancellationTokenSource over = new();
            int children = random.Next(4), delay = children == 0 ? random.Next(LongestMicroseconds) : random.Next(LongestMicroseconds / 4);
            Task killer = Task.Factory.StartNew(() => Kill(source.Pid, children, delay, over.Token), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
            (_, Errno errno) = source.Call(-target.Pid, at, Length, there, mode.Flag() | MmapFlags.Fixed | fill);
            await over.CancelAsync();
            await killer;
            string what = $"{errno} in round {round}, killed {delay} us after child {children}";
            Assert.True(errno is Errno.None or Errno.EAGAIN, what);
            Eventually.Holds(() => ProcessStatus.State(target.Pid) == 'S', "the target waits for its next command", 6);
            Eventually.Holds(() => Ours(source) + Ours(target) == 0, "nothing of ours is mapped in either", 6);
            bool has = target.Examine(there, Length, 1).Good == Length / Page;
            if (errno == Errno.None) Assert.True(has, what);
            if (!has) target.AssertContent(there, Length, Replaced);
            // The two pages of a visit may stay (docs/limits.md).
            Eventually.Holds(() => Mapped(target) - mapped <= 2 * Page, $"as much is mapped in the target as before: {what}", 6);
            mapped = Mapped(target);
            if (errno == Errno.None && mode == Mode.Move)
            {
                source.AssertTaken(at, Length, 1);
                at = source.MapFilled(Length, 1);
            }
            else
            {
                source.AssertContent(at, Length, 1);
            }
            if (errno != Errno.None) failed++;
            if (has) target.Fill(there, Length, Replaced);
        }
        Assert.True(failed >= Rounds / 10, $"only {failed} of {Rounds} calls lost their tracer");
        Leftovers.AssertNone(Theatre, [], 6);
    }

    private static ulong Mapped(Puppet puppet) => ProcessStatus.Figure(puppet.Pid, "VmSize");

    // The files that the control page and the places kept are made of.
    private static int Ours(Puppet puppet) => Smaps.ReadMaps(puppet.Pid).Count(vma => vma.Name.StartsWith("/memfd:pvmmap", StringComparison.Ordinal));

    /// <summary>Kills it when it has so many children, or so long after it has appeared if none are to be waited for.</summary>
    private static void Kill(int callerPid, int children, int microseconds, CancellationToken over)
    {
        using Children ofCaller = new(callerPid);
        int tracer = 0;
        while (tracer == 0)
        {
            if (over.IsCancellationRequested) return;
            tracer = ofCaller.Read().FirstOrDefault();
        }
        long pidfd = Libc.Syscall(Sys.pidfd_open, tracer, 0);
        if (pidfd < 0) return;
        using SafeFileHandle exactlyIt = new((nint)pidfd, ownsHandle: true);
        if (children > 0)
        {
            using Children ofTracer = new(tracer);
            while (!over.IsCancellationRequested && ofTracer.Read().Length < children)
            {
            }
        }
        for (long begin = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(begin).TotalMicroseconds < microseconds;)
        {
        }
        Libc.Syscall(Sys.pidfd_send_signal, pidfd, Libc.SIGKILL, 0, 0);
    }

    private sealed class Children(int pid) : IDisposable
    {
        private readonly byte[] _text = new byte[256];
        private readonly SafeFileHandle _file = Open(pid);

        public int[] Read()
        {
            try
            {
                int length = RandomAccess.Read(_file, _text, 0);
                return [.. Encoding.ASCII.GetString(_text, 0, length).Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(word => int.Parse(word, CultureInfo.InvariantCulture))];
            }
            catch (IOException)
            {
                return [];
            }
        }

        public void Dispose() => _file.Dispose();

        // A process that has ended meanwhile has none.
        private static SafeFileHandle Open(int pid)
        {
            try
            {
                return File.OpenHandle($"/proc/{pid}/task/{pid}/children");
            }
            catch (IOException)
            {
                return File.OpenHandle("/dev/null");
            }
        }
    }
}
