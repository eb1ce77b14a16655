using Pvmmap.Bench;
using Spectre.Console;
using Xunit;

namespace Pvmmap.Tests.Bench;

public sealed class RenderingTests
{
    private static readonly BenchReport s_report = new(
        "move", "one beside the other", new DateOnly(2026, 11, 22), new MachineDescription("6.18.0", "a processor", 2, true, 24UL << 30, "madvise"),
        [new Series("1 GiB", "PVMMAP_MOVE", "call", new Spread(7, 1234, 999, 23_456))],
        [
            new Finding("times shorter", 512, FigureUnit.Times, AtLeast: 300),
            new Finding("above", 17 << 20, FigureUnit.Bytes, AtMost: 16 << 20),
            new Finding("just so", 3, FigureUnit.Pages),
        ],
        ["something was left out"]);

    [Fact]
    public void In_Markdown() => Assert.Equal(
        """
        # move: one beside the other

        Written by `./bench move` on 2026-11-22. Linux 6.18.0, a processor, 2 cores (virtual), 24 GiB, transparent huge pages: madvise.

        | data | way | measured | p50 | min | max | rounds |
        | --- | --- | --- | ---: | ---: | ---: | ---: |
        | 1 GiB | PVMMAP_MOVE | call | 1.2 ms | 999 us | 23.5 ms | 7 |

        | figure | measured | wanted |  |
        | --- | ---: | ---: | --- |
        | times shorter | 512 x | at least 300 x | met |
        | above | 17 MiB | at most 16 MiB | MISSED |
        | just so | 3 |  |  |

        something was left out

        """, Rendering.Markdown(s_report));

    [Fact]
    public void On_a_terminal()
    {
        using var text = new StringWriter();
        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(text), Ansi = AnsiSupport.No });
        console.Profile.Width = 1000;
        Rendering.Write(s_report, console);
        Assert.Contains("Linux 6.18.0, a processor, 2 cores (virtual), 24 GiB", text.ToString(), StringComparison.Ordinal);
        Assert.Matches("PVMMAP_MOVE │ call +│ +1.2 ms │ 999 us │ 23.5 ms │ +7 │", text.ToString());
        Assert.Matches("above +│ +17 MiB │ at most 16 MiB │ MISSED │", text.ToString());
        Assert.Contains("Note: something was left out", text.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void This_machine_can_be_described()
    {
        MachineDescription here = MachineDescription.Here();
        Assert.NotEqual("", here.Kernel);
        Assert.InRange(here.Memory, 1UL << 26, 1UL << 52);
        Assert.Contains(here.HugePages, (string[])["always", "madvise", "never", "none"]);
    }
}
