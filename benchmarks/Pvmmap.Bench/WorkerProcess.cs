using System.Diagnostics;
using System.Globalization;
using System.Runtime.CompilerServices;

namespace Pvmmap.Bench;

/// <summary>A <see cref="Worker"/> seen from the benchmark that started it. It sits and waits between two calls.</summary>
internal sealed class WorkerProcess : IDisposable
{
    private readonly Process _process;

    public WorkerProcess() => _process = Process.Start(new ProcessStartInfo(Environment.ProcessPath!, [Worker.Command])
    {
        RedirectStandardInput = true,
        RedirectStandardOutput = true,
    })!;

    public int Pid => _process.Id;

    /// <summary>Fresh memory in place of what it had; not a page of it is populated.</summary>
    /// <returns>Its address.</returns>
    public ulong Map(ulong length, PageKind kind) => Ask(length, (ulong)kind)[0];

    /// <summary>Addresses without memory, in place of what it had.</summary>
    /// <returns>The first of them.</returns>
    public ulong Reserve(ulong length) => Ask(length)[0];

    /// <summary>Unmaps its memory.</summary>
    public void Release() => Ask();

    /// <summary>Writes every byte of it.</summary>
    public void Stamp(ulong seed) => Ask(seed);

    /// <returns>Pages in which some byte is not what <see cref="Stamp"/> wrote there (in whichever process).</returns>
    public ulong WrongPages(ulong seed) => Ask(seed)[0];

    /// <returns>Bytes of it that lie in transparent huge pages.</returns>
    public ulong HugeBytes() => Ask()[0];

    /// <summary>Asks the kernel to swap out the first bytes.</summary>
    /// <returns>Bytes that are swapped out then.</returns>
    public ulong PageOut(ulong length) => Ask(length)[0];

    /// <summary>process_vm_writev() of its memory.</summary>
    public TimeSpan WriteTo(WorkerProcess target, ulong address) => new((long)Ask((ulong)target.Pid, address)[0]);

    /// <summary>process_vm_mmap() of its memory, and the fill behind it.</summary>
    public CallTimes Push(WorkerProcess target, ulong address, MmapFlags flags) => CallTimes.FromWords(Ask((ulong)target.Pid, address, (ulong)flags));

    /// <summary>process_vm_mmap() of another one's memory into its own, all of it.</summary>
    public CallTimes Pull(WorkerProcess source, ulong address, MmapFlags flags) => CallTimes.FromWords(Ask((ulong)source.Pid, address, (ulong)flags));

    /// <summary>process_vm_readv() of another one's memory into its own, all of it.</summary>
    public TimeSpan ReadFrom(WorkerProcess source, ulong address) => new((long)Ask((ulong)source.Pid, address)[0]);

    /// <summary>fork() of it, whose child ends at once.</summary>
    public TimeSpan Fork() => new((long)Ask()[0]);

    /// <summary>Writes its memory to a pipe, or reads it from there.</summary>
    /// <param name="descriptor">Of the benchmark.</param>
    public TimeSpan WriteToPipe(int descriptor) => new((long)Ask((ulong)Environment.ProcessId, (ulong)descriptor)[0]);

    /// <inheritdoc cref="WriteToPipe"/>
    public TimeSpan ReadFromPipe(int descriptor) => new((long)Ask((ulong)Environment.ProcessId, (ulong)descriptor)[0]);

    /// <summary>Copies its memory into a memfd.</summary>
    /// <returns>The time, and the number of the descriptor.</returns>
    public (TimeSpan Time, int Descriptor) WriteToMemfd() => Ask() is [var ticks, var descriptor] ? (new TimeSpan((long)ticks), (int)descriptor) : default;

    /// <summary>Closes the memfd; the memory stays with who has it mapped.</summary>
    public void CloseMemfd() => Ask();

    /// <summary>Maps another one's memfd with MAP_PRIVATE, in place of the memory it had. Not a page is in its page table then.</summary>
    public TimeSpan MapMemfd(WorkerProcess source, int descriptor, ulong length) => new((long)Ask((ulong)source.Pid, (ulong)descriptor, length)[0]);

    /// <summary>Reads, or writes, one byte of each stretch of its memory, in random order.</summary>
    public Latency Touch(ulong stride, bool write) => Ask(stride, write ? 1UL : 0) is [var p50, var p99, var p999] ? new Latency(p50, p99, p999) : default;

    /// <summary>Writes every byte of it, with content that does not compress to nothing (<see cref="MixedPages"/>).</summary>
    public void StampMixed(ulong seed) => Ask(seed);

    /// <returns>Pages in which some byte is not what <see cref="StampMixed"/> or one of the streams wrote there.</returns>
    public ulong WrongMixed(ulong seed) => Ask(seed)[0];

    /// <summary>The same content piece by piece, each made in the same small buffer and passed on with process_vm_writev().</summary>
    public void StreamTo(WorkerProcess target, ulong address, ulong length, ulong piece, ulong seed) => Ask([(ulong)target.Pid, address, length, piece, seed]);

    /// <summary>The same content piece by piece, each made in the same small buffer and written to a memfd.</summary>
    /// <returns>The number of the descriptor.</returns>
    public int StreamToMemfd(ulong length, ulong piece, ulong seed) => (int)Ask([length, piece, seed])[0];

    /// <summary>process_vm_mmap() of its memory, munmap() of that as soon as the call has returned, and the fill behind it.</summary>
    public CallTimes PushAndRelease(WorkerProcess target, ulong address, MmapFlags flags) =>
        CallTimes.FromWords(Ask((ulong)target.Pid, address, (ulong)flags));

    /// <summary>Forks it; the child sleeps, and both have the memory until <see cref="EndFork"/>.</summary>
    public void HoldFork() => Ask();

    /// <summary>Ends the child of <see cref="HoldFork"/>.</summary>
    public void EndFork() => Ask();

    public void Dispose()
    {
        _process.Kill();
        _process.WaitForExit();
        _process.Dispose();
    }

    private ulong[] Ask([CallerMemberName] string request = "") => Answer(request);

    private ulong[] Ask(ulong a, [CallerMemberName] string request = "") => Answer(string.Create(CultureInfo.InvariantCulture, $"{request} {a}"));

    private ulong[] Ask(ulong a, ulong b, [CallerMemberName] string request = "") =>
        Answer(string.Create(CultureInfo.InvariantCulture, $"{request} {a} {b}"));

    private ulong[] Ask(ulong a, ulong b, ulong c, [CallerMemberName] string request = "") =>
        Answer(string.Create(CultureInfo.InvariantCulture, $"{request} {a} {b} {c}"));

    private ulong[] Ask(ulong[] numbers, [CallerMemberName] string request = "") =>
        Answer($"{request} {string.Join(' ', numbers.Select(number => number.ToString(CultureInfo.InvariantCulture)))}");

    private ulong[] Answer(string line)
    {
        _process.StandardInput.WriteLine(line);
        _process.StandardInput.Flush();
        string answer = _process.StandardOutput.ReadLine()
            ?? throw new WorkerEndedException($"bench: process {Pid} ended when told '{line}'; its message is above, else see dmesg (out of memory?)");
        return [.. answer.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(word => ulong.Parse(word, CultureInfo.InvariantCulture))];
    }
}

/// <summary>A worker is not there any more.</summary>
internal sealed class WorkerEndedException(string message) : IOException(message);
