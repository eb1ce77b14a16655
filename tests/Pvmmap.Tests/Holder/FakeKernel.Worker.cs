using Pvmmap.Holder.Freestanding;

namespace Pvmmap.Tests.Holder;

// The second thread of the holder: it runs at system calls of the first, one piece of its work at a time.
internal sealed unsafe partial class FakeKernel
{
    private Service* service;
    private bool isWorkerRunning;

    public bool HasWorker { get; private set; }

    public int Processors { get; set; } = 2;

    /// <summary>In percent: how often the kernel has no room for a thread.</summary>
    public int ThreadShortage { get; set; } = 5;

    /// <summary>Bytes that the thread has delivered.</summary>
    public ulong DeliveredByWorker { get; private set; }

    /// <summary>The holder may have a second thread, and divides what is left at any page, or at any huge page if there are some.</summary>
    public void AllowWorker(Service* holder)
    {
        service = holder;
        holder->Worker.StackTop = 1;
        holder->Worker.CloneCall = (ulong)(delegate*<long, ulong, ulong, ulong, long>)&Clone;
        if (!Source.Any(page => page.Huge)) holder->Worker.Grain = PageSize;
    }

    private static long Clone(long flags, ulong stackTop, ulong function, ulong argument)
    {
        FakeKernel kernel = current!;
        if (argument != (ulong)kernel.service) throw new InvalidOperationException("the thread is given something else than the service");
        if (kernel.Dice.Chance(kernel.ThreadShortage)) return Kernel.EAGAIN;
        kernel.HasWorker = true;
        return 502;
    }

    private bool LetWorkerRun()
    {
        if (isWorkerRunning) return false;
        isWorkerRunning = true;
        try
        {
            if (service->Worker.Leaves)
            {
                HasWorker = false;
                service->Worker.Lives = 0;
                return true;
            }
            return FillWorker.Turn(service);
        }
        finally
        {
            DeliveredByWorker = service->Worker.Delivered;
            isWorkerRunning = false;
        }
    }

    // Only the loop sleeps here, for an answer.
    private long Sleep(uint* word, uint value)
    {
        while (*word == value)
        {
            if (!HasWorker || !LetWorkerRun()) throw new InvalidOperationException("the holder waits for a thread that does nothing");
        }
        return 0;
    }

    private long GiveProcessors(ulong* mask)
    {
        mask[0] = (1UL << Processors) - 1;
        return sizeof(ulong);
    }
}
