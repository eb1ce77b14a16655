using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>1,000 calls of 1 MiB leave no extra process, descriptor, VMA or memory anywhere.</summary>
public sealed class RepetitionTests(Theatre theatre) : Scene(theatre)
{
    private const int Calls = 1000;

    [Fact]
    public void Pull()
    {
        Puppet source = NewPuppet();
        ulong at = source.MapFilled(MiB, 1), place = Map(Own, MiB);
        Repeat(source, Own, at, place);
    }

    [Fact]
    public void Push()
    {
        Puppet target = NewPuppet();
        ulong at = MapFilled(Own, MiB, 1), place = target.Map(MiB);
        Repeat(Own, target, at, place);
    }

    [Fact]
    public void Third_party()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        ulong at = source.MapFilled(MiB, 1), place = target.Map(MiB);
        Repeat(source, target, at, place);
    }

    private void Repeat(AddressSpace source, AddressSpace target, ulong at, ulong place)
    {
        var holders = new List<int>();
        for (int i = 0; i < 20; i++) One(i); // let the runtime's heap and pools grow to their size
        AddressSpace[] spaces = [.. new[] { source, target, Own }.Distinct()];
        Account[] before = [.. spaces.Select(space => Account.Of(space.Pid))];
        for (int i = 0; i < Calls; i++) One(i);
        target.AssertContent(place, MiB, 1);
        source.AssertContent(at, MiB, 1);
        for (int i = 0; i < spaces.Length; i++)
        {
            Account was = before[i];
            int pid = spaces[i].Pid;
            bool managed = spaces[i] is OwnProcess;
            // the .NET heap breathes: a leak of a page a call would be 4 MiB, of a descriptor or mapping a call 1,000
            ulong slack = managed ? 24 * MiB : 256 * 1024;
            int few = managed ? 60 : 0;
            string seen = "";
            bool settled = Eventually.Becomes(
                () =>
                {
                    Account now = Account.Of(pid);
                    seen = $"{was} -> {now}";
                    return now.Descriptors <= was.Descriptors + few && now.Mappings <= was.Mappings + few && now.Resident <= was.Resident + slack
                        && now.PageTables <= was.PageTables + slack && now.Children <= was.Children;
                },
                seconds: 20);
            Assert.True(settled, $"process {pid}: {seen}");
        }
        // zombies included: whoever adopts them reaps them within a few seconds
        Eventually.Holds(() => holders.TrueForAll(pid => !ProcessStatus.All().Contains(pid) || ProcessStatus.Name(pid) is not { } name
            || !name.StartsWith("pvmmap-", StringComparison.Ordinal)), "every holder and guardian is gone", seconds: 60);

        void One(int i)
        {
            MmapFlags fill = (i % 3) switch { 0 => MmapFlags.None, 1 => MmapFlags.Populate, _ => MmapFlags.Lazy };
            MmapResult result = (source, target) switch
            {
                (_, OwnProcess) => ProcessVm.Mmap(source.Pid, at, MiB, place, MmapFlags.Fixed | fill),
                (OwnProcess, _) => ProcessVm.Mmap(-target.Pid, at, MiB, place, MmapFlags.Fixed | fill),
                _ => ProcessVm.MmapBetween(source.Pid, target.Pid, at, MiB, place, MmapFlags.Fixed | fill),
            };
            using Duplication duplication = result.Duplication;
            // a lazy fill ends with the last page that is touched, or when it is told to
            if (i % 100 == 2) duplication.Finish();
            else if (fill == MmapFlags.Lazy) target.Touch(place, MiB);
            AssertCompletes(duplication);
            holders.Add(duplication.HolderPid);
            holders.Add(duplication.GuardianPid);
        }
    }

    private readonly record struct Account(int Descriptors, int Mappings, ulong Resident, ulong PageTables, int Children)
    {
        public static Account Of(int pid) => new(
            ProcessStatus.Descriptors(pid), ProcessStatus.Mappings(pid), ProcessStatus.Figure(pid, "VmRSS"), ProcessStatus.Figure(pid, "VmPTE"),
            ProcessStatus.Children(pid).Count());
    }
}
