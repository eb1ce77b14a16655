namespace Pvmmap.Holder.Freestanding;

/// <summary>
/// A process that shares the caller's memory and descriptors and traces for it: the ptrace stops are its children's, so the caller's own
/// SIGCHLD handler never sees them.
/// </summary>
internal static unsafe class Tracer
{
    private const long PR_SET_PDEATHSIG = 1;
    private const long SIGKILL = 9;
    private const long WNOHANG = 1;

    public static void Run(TracerMailbox* mailbox)
    {
        KernelEntry call = (KernelEntry)mailbox->Syscall;
        call(SystemCalls.prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, 0);
        Kernel.SetName(call, 0x742d_7061_6d6d_7670, 0x7265_6361_72); // "pvmmap-tracer"
        if (call(SystemCalls.getppid, 0, 0, 0, 0, 0, 0) != mailbox->CallerPid)
            Kernel.Exit(call, 0);
        uint answered = Published.Read(&mailbox->Answer);
        for (;;)
        {
            uint request = Next(call, mailbox, answered);
            bool stop = mailbox->Number == TracerMailbox.Stop;
            if (stop)
                mailbox->Result = 0;
            else if (mailbox->Number == TracerMailbox.Spawn)
            {
                var clone = (delegate*<long, ulong, ulong, ulong, long>)mailbox->CloneCall;
                mailbox->Result = clone(mailbox->A4, (ulong)mailbox->A1, (ulong)mailbox->A2, (ulong)mailbox->A3);
            }
            else if (mailbox->Number == TracerMailbox.List)
                mailbox->Result = RunList(call, mailbox, (TracerRequest*)mailbox->A1, mailbox->A2);
            else
                mailbox->Result = Run(call, mailbox, mailbox->Number, mailbox->A1, mailbox->A2, mailbox->A3, mailbox->A4);
            answered = request;
            Published.Write(&mailbox->Answer, request);
            Kernel.Wake(call, &mailbox->Answer);
            if (stop)
                call(SystemCalls.exit, 0, 0, 0, 0, 0, 0);
        }
    }

    private static long RunList(KernelEntry call, TracerMailbox* mailbox, TracerRequest* list, long count)
    {
        long done = 0;
        while (done < count)
        {
            TracerRequest* request = list + done;
            request->Result = Run(call, mailbox, request->Number, request->A1, request->A2, request->A3, request->A4);
            if (request->Result < 0)
                break;
            done++;
        }
        return done;
    }

    // A tracee is mostly at its next stop before this process would be asleep, and long before it would be woken.
    private static long Run(KernelEntry call, TracerMailbox* mailbox, long number, long a1, long a2, long a3, long a4)
    {
        for (uint rounds = 0; number == SystemCalls.wait4 && rounds < mailbox->SpinRounds && MaySpin(mailbox); rounds++)
        {
            long result = call(number, a1, a2, a3 | WNOHANG, a4, 0, 0);
            if (result != 0)
                return result;
            Yield(call, mailbox);
        }
        return call(number, a1, a2, a3, a4, 0, 0);
    }

    private static uint Next(KernelEntry call, TracerMailbox* mailbox, uint answered)
    {
        uint rounds = 0;
        for (;;)
        {
            uint request = Published.Read(&mailbox->Request);
            if (request != answered)
                return request;
            if (++rounds > mailbox->SpinRounds || !MaySpin(mailbox))
                Kernel.WaitWhile(call, &mailbox->Request, answered);
            else
                Yield(call, mailbox);
        }
    }

    private static bool MaySpin(TracerMailbox* mailbox) => Published.Read(&mailbox->SlowYields) < TracerMailbox.TooManySlowYields;

    private static void Yield(KernelEntry call, TracerMailbox* mailbox)
    {
        ulong before = Kernel.Now(call);
        Kernel.Yield(call);
        if (Kernel.Now(call) - before > TracerMailbox.SlowYield)
            Published.Write(&mailbox->SlowYields, Published.Read(&mailbox->SlowYields) + 1);
    }
}
