using System.Globalization;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>A Python program at work (programs/notebook.py) as source and as target.</summary>
public sealed class PythonTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 8 * MiB;

    [Fact]
    public void As_source_and_as_target()
    {
        Actor from = Start(), to = Start();
        string[] data = from.Ask($"data {Length} 42");
        ulong at = ulong.Parse(data[0], CultureInfo.InvariantCulture);
        for (int round = 0; round < 10; round++)
        {
            MmapResult result = Call(from, to, at, Length, flags: round % 2 == 0 ? MmapFlags.Lazy : MmapFlags.None);
            Assert.Equal(data[1], to.Ask($"digest {result.DataAddress} {Length}")[0]);
            to.Ask($"set {result.DataAddress} 90 {Length / 2}");
            Assert.Equal(data[1], from.Ask($"digest {at} {Length}")[0]);
            result.Duplication.Finish();
            AssertCompletes(result);
            foreach (Actor python in (Actor[])[from, to])
            {
                ulong rounds = python.Number($"rounds");
                Eventually.Holds(() => python.Number($"rounds") > rounds, "the program works on");
            }
        }
    }

    [Fact]
    public void Its_whole_heap_goes_to_another_process()
    {
        Actor python = Start();
        Puppet target = NewPuppet();
        python.Ask($"data {Length} 7");
        foreach (Vma vma in Smaps.Read(python.Pid).Where(vma => vma is { IsPrivateAnonymous: true, Permissions: "rw-p", Name: "" or "[heap]" }))
        {
            MmapResult result = Call(python, target, vma.Range.Start, vma.Range.Length);
            AssertCompletes(result);
            target.Touch(result.Address, result.Length);
        }
        ulong rounds = python.Number($"rounds");
        Eventually.Holds(() => python.Number($"rounds") > rounds, "the program works on");
    }

    private Actor Start()
    {
        Machine.RequireProgram("python3");
        // python3 may be a script that starts another process; the interpreter itself knows where it lives
        (int code, string python) = Theatre.Run("python3", "-c", "import sys; print(sys.executable)");
        Assert.Equal(0, code);
        return NewActor(python.Trim(), Path.Combine(Theatre.RepositoryRoot, "tests/programs/notebook.py"));
    }
}
