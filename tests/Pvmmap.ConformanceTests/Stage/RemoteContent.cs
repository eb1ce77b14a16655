using System.Runtime.InteropServices;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>Looks at another process's pages from outside: what faults there is an error here, and a page that is missing is waited for.</summary>
internal static unsafe class RemoteContent
{
    private const int PageBytes = (int)PageRange.PageSize;

    [StructLayout(LayoutKind.Sequential)]
    private struct Vector
    {
        public ulong Base;
        public ulong Length;
    }

    /// <summary>The pattern of a seed is expected in every page. A page that cannot be read counts as SIGBUS. Null: it did not come in time.</summary>
    public static Census? Examine(int pid, ulong address, ulong pages, ulong seed, ulong firstPage)
    {
        // A wait for a page ends with the process that waits or with the userfaultfd, not with this thread's patience.
        var looking = new Task<Census>(() => Look(pid, address, pages, seed, firstPage), TaskCreationOptions.LongRunning);
        looking.Start();
        return looking.Wait(Patience.Of(10)) ? looking.Result : null;
    }

    private static Census Look(int pid, ulong address, ulong pages, ulong seed, ulong firstPage)
    {
        ulong good = 0, zero = 0, wrong = 0, unreadable = 0, firstBad = 0;
        ulong* page = (ulong*)NativeMemory.AlignedAlloc((nuint)PageBytes, (nuint)PageBytes);
        try
        {
            for (ulong i = 0; i < pages; i++)
            {
                ulong at = address + i * (ulong)PageBytes;
                Vector near = new() { Base = (ulong)page, Length = (ulong)PageBytes }, far = new() { Base = at, Length = (ulong)PageBytes };
                if (Libc.Syscall(Sys.process_vm_readv, pid, (long)&near, 1, (long)&far, 1) != PageBytes)
                {
                    unreadable++;
                    continue;
                }
                Census one = Pattern.Examine((ulong)page, (ulong)PageBytes, seed, firstPage + i, 1);
                good += one.Good;
                zero += one.Zero;
                wrong += one.Wrong;
                if (one.Good == 0 && firstBad == 0) firstBad = at;
            }
        }
        finally
        {
            NativeMemory.AlignedFree(page);
        }
        return new Census(good, zero, wrong, unreadable, 0, firstBad, zero > 0 ? "zero" : "other");
    }
}
