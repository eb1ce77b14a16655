using System.Diagnostics;
using System.Globalization;
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

    public void Dispose() => _memory?.Dispose();

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
                return WriteTo((int)pid, address);
            case (nameof(WorkerProcess.Push), [var pid, var address, var flags]):
                return Push((int)pid, address, (MmapFlags)flags);
            default:
                throw new InvalidOperationException($"the worker does not understand '{string.Join(' ', words)}'");
        }
    }

    private object[] WriteTo(int pid, ulong address)
    {
        long start = Stopwatch.GetTimestamp();
        Memory.WriteTo(pid, address);
        return [Stopwatch.GetElapsedTime(start).Ticks];
    }

    private object[] Push(int pid, ulong address, MmapFlags flags)
    {
        ulong swappedIn = SwapTraffic.PagesIn();
        long start = Stopwatch.GetTimestamp();
        MmapResult result = ProcessVm.Mmap(-pid, Memory.Address, Memory.Length, address, flags);
        TimeSpan call = Stopwatch.GetElapsedTime(start);
        swappedIn = SwapTraffic.PagesIn() - swappedIn;
        using Duplication fill = result.Duplication;
        fill.Wait(Timeout.InfiniteTimeSpan);
        TimeSpan complete = Stopwatch.GetElapsedTime(start);
        if (fill.State != DuplicationState.Complete) throw new InvalidOperationException($"the fill ended as {fill.State}");
        if (result.Notes.Count > 0) throw new InvalidOperationException($"this machine lacks what the measurement needs: {result.Notes[0]}");
        if (flags.HasFlag(MmapFlags.Move) && !Memory.HandOver()) throw new InvalidOperationException("the range is still mapped in the source");
        return [call.Ticks, complete.Ticks, swappedIn];
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
