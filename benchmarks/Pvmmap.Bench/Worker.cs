using System.Diagnostics;
using System.Globalization;
using Microsoft.Win32.SafeHandles;
using Pvmmap.Cli;
using Pvmmap.Cli.Demo;
using Pvmmap.Linux;
using Pvmmap.Procfs;

namespace Pvmmap.Bench;

/// <summary>
/// A process of a benchmark: owns one piece of private anonymous memory and does what the lines of its standard input say, one line of answer
/// each. It ends with its input. <see cref="WorkerProcess"/> is the other side.
/// </summary>
internal sealed class Worker : IDisposable
{
    public const string Command = "worker";

    private const int MADV_PAGEOUT = 21;

    private AnonymousMemory? _memory;
    private FileDescriptor? _memfd;
    private int _fork;

    private AnonymousMemory Memory => _memory ?? throw new InvalidOperationException("there is no memory yet");

    public static int Serve(TextReader requests, TextWriter answers)
    {
        using var worker = new Worker();
        while (requests.ReadLine() is { } line)
        {
            answers.WriteLine(string.Join(' ', worker.Answer(line.Split(' ')).Select(word => Convert.ToString(word, CultureInfo.InvariantCulture))));
            answers.Flush();
        }

        return ExitCode.Done;
    }

    public void Dispose()
    {
        _memory?.Dispose();
        _memfd?.Dispose();
        _memfd = null;
    }

    private object[] Answer(string[] words)
    {
        ulong[] numbers = [.. words.Skip(1).Select(word => ulong.Parse(word, CultureInfo.InvariantCulture))];
        switch (words[0], numbers)
        {
            case (nameof(WorkerProcess.Map), [var length, var kind]):
                return [Have((PageKind)kind == PageKind.Huge ? AnonymousMemory.MapHuge(length) : AnonymousMemory.MapSmall(length))];
            case (nameof(WorkerProcess.Reserve), [var length]):
                return [Have(AnonymousMemory.Reserve(length))];
            case (nameof(WorkerProcess.Release), []):
                Dispose();
                return [];
            case (nameof(WorkerProcess.Stamp), [var seed]):
                PageStamps.Write(Memory, seed);
                return [];
            case (nameof(WorkerProcess.WrongPages), [var seed]):
                return [PageStamps.CountWrong(Memory, seed)];
            case (nameof(WorkerProcess.HugeBytes), []):
                return [Sum(entry => entry.AnonHugePages)];
            case (nameof(WorkerProcess.PageOut), [var length]):
                SystemCall.Invoke(SystemCall.SYS_madvise, (long)Memory.Address, (long)length, MADV_PAGEOUT).OrThrow("madvise(MADV_PAGEOUT)");
                return [Sum(entry => entry.Swap)];
            case (nameof(WorkerProcess.WriteTo), [var pid, var address]):
                return Timed(() => Memory.WriteTo((int)pid, address));
            case (nameof(WorkerProcess.ReadFrom), [var pid, var address]):
                return Timed(() => Memory.ReadFrom((int)pid, address));
            case (nameof(WorkerProcess.Fork), []):
                return [RawFork.Measure().Ticks];
            case (nameof(WorkerProcess.WriteToPipe), [var pid, var descriptor]):
                return Timed(() => ThroughPipe(pid, descriptor, FileAccess.Write));
            case (nameof(WorkerProcess.ReadFromPipe), [var pid, var descriptor]):
                return Timed(() => ThroughPipe(pid, descriptor, FileAccess.Read));
            case (nameof(WorkerProcess.WriteToMemfd), []):
                return WriteToMemfd();
            case (nameof(WorkerProcess.CloseMemfd), []):
                _memfd?.Dispose();
                _memfd = null;
                return [];
            case (nameof(WorkerProcess.MapMemfd), [var pid, var descriptor, var length]):
                return MapMemfd(pid, descriptor, length);
            case (nameof(WorkerProcess.Touch), [var stride, var write]):
                Latency latency = Latency.Measure(Memory, stride, write != 0);
                return [latency.P50, latency.P99, latency.P999];
            case (nameof(WorkerProcess.Pull), [var pid, var address, var flags]):
                return Pull((int)pid, address, (MmapFlags)flags);
            case (nameof(WorkerProcess.Push), [var pid, var address, var flags]):
                return Push((int)pid, address, (MmapFlags)flags);
            case (nameof(WorkerProcess.PushAndRelease), [var pid, var address, var flags]):
                return PushAndRelease((int)pid, address, (MmapFlags)flags);
            case (nameof(WorkerProcess.StampMixed), [var seed]):
                MixedPages.Write(Memory, seed);
                return [];
            case (nameof(WorkerProcess.WrongMixed), [var seed]):
                return [MixedPages.CountWrong(Memory, seed)];
            case (nameof(WorkerProcess.StreamTo), [var pid, var address, var length, var piece, var seed]):
                StreamTo((int)pid, address, length, piece, seed);
                return [];
            case (nameof(WorkerProcess.StreamToMemfd), [var length, var piece, var seed]):
                return [StreamToMemfd(length, piece, seed)];
            case (nameof(WorkerProcess.HoldFork), []):
                _fork = RawFork.Hold();
                return [];
            case (nameof(WorkerProcess.EndFork), []):
                RawFork.End(_fork);
                return [];
            default:
                throw new InvalidOperationException($"the worker does not understand '{string.Join(' ', words)}'");
        }
    }

    private object[] Push(int pid, ulong address, MmapFlags flags) => CallTimes.Of(
        () => ProcessVm.Mmap(-pid, Memory.Address, Memory.Length, address, flags),
        _ =>
        {
            if (flags.HasFlag(MmapFlags.Move) && !Memory.HandOver()) throw new InvalidOperationException("the range is still mapped in the source");
        }).ToWords();

    private object[] PushAndRelease(int pid, ulong address, MmapFlags flags) => CallTimes.Of(() =>
    {
        MmapResult result = ProcessVm.Mmap(-pid, Memory.Address, Memory.Length, address, flags);
        Memory.Dispose();
        return result;
    }).ToWords();

    private void StreamTo(int pid, ulong address, ulong length, ulong piece, ulong seed)
    {
        AnonymousMemory buffer = Buffer(piece);
        for (ulong offset = 0; offset < length; offset += piece)
        {
            MixedPages.Write(buffer.Slice(0), seed, offset / PageRange.PageSize);
            buffer.WriteTo(pid, address + offset);
        }
    }

    private int StreamToMemfd(ulong length, ulong piece, ulong seed)
    {
        AnonymousMemory buffer = Buffer(piece);
        _memfd = Memfd.Create("pvmmap-bench", (long)length);
        using var file = new SafeFileHandle(_memfd.Number, ownsHandle: false);
        for (ulong offset = 0; offset < length; offset += piece)
        {
            MixedPages.Write(buffer.Slice(0), seed, offset / PageRange.PageSize);
            RandomAccess.Write(file, buffer.Slice(0), (long)offset);
        }

        return _memfd.Number;
    }

    private AnonymousMemory Buffer(ulong length)
    {
        Have(AnonymousMemory.MapSmall(length));
        return Memory;
    }

    private object[] Pull(int pid, ulong address, MmapFlags flags) =>
        CallTimes.Of(() => ProcessVm.Mmap(pid, address, Memory.Length, Memory.Address, flags)).ToWords();

    private static object[] Timed(Action action)
    {
        long start = Stopwatch.GetTimestamp();
        action();
        return [Stopwatch.GetElapsedTime(start).Ticks];
    }

    private void ThroughPipe(ulong pid, ulong descriptor, FileAccess access)
    {
        using FileStream pipe = new($"/proc/{pid}/fd/{descriptor}", FileMode.Open, access, FileShare.ReadWrite, bufferSize: 0);
        for (ulong offset = 0; offset < Memory.Length;)
        {
            Span<byte> piece = Memory.Slice(offset);
            if (access == FileAccess.Write) pipe.Write(piece);
            else pipe.ReadExactly(piece);
            offset += (ulong)piece.Length;
        }
    }

    private object[] WriteToMemfd()
    {
        _memfd?.Dispose();
        long start = Stopwatch.GetTimestamp();
        _memfd = Memfd.Create("pvmmap-bench", (long)Memory.Length);
        using var file = new SafeFileHandle(_memfd.Number, ownsHandle: false);
        for (ulong offset = 0; offset < Memory.Length; offset += (ulong)Memory.Slice(offset).Length)
            RandomAccess.Write(file, Memory.Slice(offset), (long)offset);
        return [Stopwatch.GetElapsedTime(start).Ticks, _memfd.Number];
    }

    private object[] MapMemfd(ulong pid, ulong descriptor, ulong length)
    {
        long start = Stopwatch.GetTimestamp();
        using SafeFileHandle file = File.OpenHandle($"/proc/{pid}/fd/{descriptor}", FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        Have(AnonymousMemory.MapFile(length, (int)file.DangerousGetHandle()));
        return [Stopwatch.GetElapsedTime(start).Ticks];
    }

    private ulong Have(AnonymousMemory memory)
    {
        Dispose();
        _memory = memory;
        return memory.Address;
    }

    private ulong Sum(Func<SmapsEntry, ulong> figure)
    {
        var range = new PageRange(Memory.Address, Memory.Address + Memory.Length);
        ulong sum = 0;
        foreach (SmapsEntry entry in Smaps.Read(Environment.ProcessId))
        {
            if (range.Contains(entry.Vma.Range)) sum += figure(entry);
        }

        return sum;
    }
}
