using Pvmmap.Holder.Freestanding;

namespace Pvmmap.Tests.Holder;

// The target's memory, written from outside before its region is registered.
internal sealed unsafe partial class FakeKernel
{
    public const int TargetMemory = 90, TargetNumber = 700;
    private const int InputOutputError = -5;

    /// <summary>In percent: how often a write ends before its end.</summary>
    public int ShortWrites { get; set; }

    /// <summary>The holder may write by the target's number.</summary>
    public bool MayWriteByNumber { get; set; } = true;

    /// <summary>The target has called execve(): its number is that of another memory.</summary>
    public bool IsTargetReplaced { get; set; }

    public int WritesByNumber { get; private set; }

    public int WritesThroughMemory { get; private set; }

    public bool IsTargetMemoryClosed { get; private set; }

    private long ReadTargetMemory() => IsTargetReplaced ? 0 : InputOutputError;

    private long WriteTargetMemory(int file, ulong from, ulong length, ulong to)
    {
        if (file != TargetMemory || IsTargetMemoryClosed) throw new InvalidOperationException($"written through descriptor {file}");
        WritesThroughMemory++;
        return IsTargetReplaced ? 0 : WritePages(from, length, to);
    }

    private long WriteByNumber(int number, ulong* from, ulong* to)
    {
        if (number != TargetNumber) throw new InvalidOperationException($"process {number} is written to");
        if (!MayWriteByNumber) return Kernel.EPERM;
        if (IsTargetReplaced) throw new InvalidOperationException("another program's memory is written to");
        WritesByNumber++;
        return WritePages(from[0], from[1], to[0]);
    }

    private long WritePages(ulong from, ulong length, ulong to)
    {
        ulong end = Dice.Chance(ShortWrites) ? (ulong)Dice.Below((int)(length / PageSize)) * PageSize : length;
        // The first fault makes a huge page of it, zeros where nothing is written yet.
        for (ulong done = 0; done < length; done += PageSize)
        {
            TargetPage page = Targets[0].Pages[to + done];
            if (page.State == PageState.Missing) (page.State, page.Content) = (PageState.Present, 0);
            if (done < end) page.Content = At(from + done).Content;
        }
        return end == 0 ? InputOutputError : (long)end;
    }
}
