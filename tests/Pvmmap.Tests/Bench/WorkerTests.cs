using System.Globalization;
using Pvmmap.Bench;
using Xunit;

namespace Pvmmap.Tests.Bench;

public sealed class WorkerTests
{
    [Fact]
    public void It_does_line_by_line_what_it_is_told()
    {
        var answers = new StringWriter { NewLine = "\n" };
        Worker.Serve(new StringReader("Map 1048576 0\nStamp 7\nWrongPages 7\nWrongPages 8\nHugeBytes\nRelease\n"), answers);
        string[] lines = answers.ToString().Split('\n');
        Assert.NotEqual(0UL, ulong.Parse(lines[0], CultureInfo.InvariantCulture));
        Assert.Equal(["", "0", "256", "0", "", ""], lines[1..]);
    }

    [Fact]
    public void It_refuses_what_it_does_not_know()
    {
        Assert.Throws<InvalidOperationException>(() => Worker.Serve(new StringReader("Map 1\n"), TextWriter.Null));
        Assert.Throws<InvalidOperationException>(() => Worker.Serve(new StringReader("Stamp 1\n"), TextWriter.Null));
    }
}
