using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>The second thread of a long fill.</summary>
public sealed class FillWorkerTests(Theatre theatre) : Scene(theatre)
{
    private const string Name = "pvmmap-filler";
    private const int Repetitions = 12;

    public static TheoryData<MmapFlags> Deals => [MmapFlags.None, MmapFlags.Move];

    [Theory]
    [MemberData(nameof(Deals))]
    public void Where_processors_are_free_two_threads_fill(MmapFlags deal)
    {
        const ulong length = 256 * MiB;
        Machine.Require(Environment.ProcessorCount > 1, "needs two processors");
        Puppet source = NewPuppet(), target = NewPuppet();
        MmapResult result = Call(source, target, source.MapFilled(length, 1), length, flags: deal);
        bool seen = SeesWorker(result.Duplication);
        AssertCompletes(result);
        Assert.True(seen, "the holder has had one thread all the time");
        target.AssertContent(result.Address, length, 1);
    }

    [Theory]
    [MemberData(nameof(Deals))]
    public void On_one_processor_one_thread_fills(MmapFlags deal)
    {
        const ulong length = 128 * MiB;
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong mask = source.Map(Page);
        source.Write(mask, [1, 0, 0, 0, 0, 0, 0, 0]);
        source.Must(source.Syscall(Sys.sched_setaffinity, 0, 8, (long)mask), "sched_setaffinity");
        MmapResult result = Call(source, target, source.MapFilled(length, 1), length, flags: deal);
        Assert.False(SeesWorker(result.Duplication));
        AssertCompletes(result);
        target.AssertContent(result.Address, length, 1);
    }

    [Theory]
    [MemberData(nameof(Deals))]
    public void A_holder_killed_while_two_threads_fill_leaves_no_zeros(MmapFlags deal)
    {
        const ulong length = 64 * MiB;
        Puppet source = NewPuppet(), target = NewPuppet();
        for (int i = 0; i < Repetitions; i++)
        {
            MmapResult result = Call(source, target, source.MapFilled(length, 1), length, flags: deal);
            SeesWorker(result.Duplication, i);
            Libc.Kill(result.Duplication.HolderPid, Libc.SIGKILL);
            Census seen = target.Examine(result.Address, length, 1);
            Assert.True(seen.Pages == length / Page && seen.Zero == 0 && seen.Wrong == 0 && seen.SegV == 0 && (deal == MmapFlags.None || seen.SigBus == 0), $"{seen}");
            result.Duplication.Wait(Patience.Of(20));
            target.Unmap(result.Address, length);
        }
    }

    [Theory]
    [MemberData(nameof(Deals))]
    public void What_the_target_does_meanwhile_is_what_counts(MmapFlags deal)
    {
        const ulong length = 64 * MiB, quarter = length / 4;
        Puppet source = NewPuppet(), target = NewPuppet();
        for (int i = 0; i < Repetitions; i++)
        {
            MmapResult result = Call(source, target, source.MapFilled(length, 1), length, flags: deal);
            ulong at = result.Address, elsewhere = target.FreeRange(quarter);
            SeesWorker(result.Duplication, i);
            // of the upper half, which is the second thread's
            target.Must(target.Syscall(Sys.madvise, (long)(at + (3 * quarter)), (long)quarter, 4), "madvise");
            Puppet child = ForkOf(target);
            Assert.Equal(elsewhere, target.Move(at + (2 * quarter), quarter, elsewhere));
            AssertAllZero(target, at + (3 * quarter), quarter);
            target.AssertContent(elsewhere, quarter, 1, 2 * quarter / Page);
            target.AssertContent(at, 2 * quarter, 1);
            child.AssertContent(at, 3 * quarter, 1);
            AssertAllZero(child, at + (3 * quarter), quarter);
            child.Kill();
            AssertCompletes(result);
            target.Unmap(at, length);
            target.Unmap(elsewhere, quarter);
        }
    }

    // At once, or until it is over; or for so many looks.
    private static bool SeesWorker(Duplication fill, int looks = int.MaxValue)
    {
        for (int i = 0; i < looks && fill.State is not (DuplicationState.Complete or DuplicationState.Lost); i++)
        {
            try
            {
                foreach (string task in Directory.EnumerateDirectories($"/proc/{fill.HolderPid}/task"))
                {
                    if (File.ReadAllText($"{task}/comm").TrimEnd() == Name) return true;
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // It is over.
                return false;
            }
        }
        return false;
    }
}
