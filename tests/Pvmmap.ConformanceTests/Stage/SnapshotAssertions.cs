using Pvmmap.Snapshots;

namespace Pvmmap.ConformanceTests.Stage;

/// <summary>What a snapshot must hold of its source.</summary>
internal static class SnapshotAssertions
{
    // in struct user_regs_struct, <sys/user.h>
    private const int Rip = 16, Rsp = 19;

    /// <summary>The pattern of a seed in every page.</summary>
    public static unsafe void AssertContent(this ProcessSnapshot snapshot, ulong address, ulong length, ulong seed, ulong firstPage = 0)
    {
        byte[] content = new byte[length];
        snapshot.Read(address, content);
        fixed (byte* here = content)
        {
            Census seen = Pattern.Examine((ulong)here, length, seed, firstPage, 1);
            Assert.True(seen.Good == length / PageRange.PageSize, $"0x{address:x} + {length} of the snapshot should hold seed {seed}: {seen}");
        }
    }

    /// <summary>The source's threads do nothing but wait, and each was seen where the kernel says that it waits.</summary>
    public static void AssertThreadsWaited(this ProcessSnapshot snapshot)
    {
        foreach (SnapshotThread thread in snapshot.Threads)
            Assert.Equal(ProcessStatus.BlockedAt(snapshot.Identity.ProcessId, thread.ThreadId), (Register(thread, Rsp), Register(thread, Rip)));
    }

    private static ulong Register(SnapshotThread thread, int index) => BitConverter.ToUInt64(thread.GeneralRegisters.Span[(index * sizeof(ulong))..]);
}
