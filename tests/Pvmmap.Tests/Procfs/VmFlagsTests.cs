using System.Text;
using Pvmmap.Procfs;
using Xunit;

namespace Pvmmap.Tests.Procfs;

public class VmFlagsTests
{
    private static VmFlags Parse(string codes) => VmFlagsCodes.Parse(Encoding.UTF8.GetBytes(codes));

    [Theory]
    [InlineData("rd", VmFlags.Read)]
    [InlineData("wr", VmFlags.Write)]
    [InlineData("ex", VmFlags.Exec)]
    [InlineData("sh", VmFlags.Shared)]
    [InlineData("mr", VmFlags.MayRead)]
    [InlineData("mw", VmFlags.MayWrite)]
    [InlineData("me", VmFlags.MayExec)]
    [InlineData("ms", VmFlags.MayShare)]
    [InlineData("gd", VmFlags.GrowsDown)]
    [InlineData("pf", VmFlags.PfnMap)]
    [InlineData("lo", VmFlags.Locked)]
    [InlineData("lf", VmFlags.LockOnFault)]
    [InlineData("io", VmFlags.Io)]
    [InlineData("sr", VmFlags.SeqRead)]
    [InlineData("rr", VmFlags.RandRead)]
    [InlineData("dc", VmFlags.DontCopy)]
    [InlineData("de", VmFlags.DontExpand)]
    [InlineData("ac", VmFlags.Account)]
    [InlineData("nr", VmFlags.NoReserve)]
    [InlineData("ht", VmFlags.HugeTlb)]
    [InlineData("sf", VmFlags.Sync)]
    [InlineData("ar", VmFlags.Arch1)]
    [InlineData("wf", VmFlags.WipeOnFork)]
    [InlineData("dd", VmFlags.DontDump)]
    [InlineData("sd", VmFlags.SoftDirty)]
    [InlineData("mm", VmFlags.MixedMap)]
    [InlineData("hg", VmFlags.HugePage)]
    [InlineData("nh", VmFlags.NoHugePage)]
    [InlineData("mg", VmFlags.Mergeable)]
    [InlineData("um", VmFlags.UffdMissing)]
    [InlineData("uw", VmFlags.UffdWp)]
    [InlineData("ui", VmFlags.UffdMinor)]
    [InlineData("ss", VmFlags.ShadowStack)]
    [InlineData("dp", VmFlags.Droppable)]
    [InlineData("sl", VmFlags.Sealed)]
    [InlineData("gu", VmFlags.MaybeGuard)]
    [InlineData("bt", VmFlags.Bti)]
    [InlineData("mt", VmFlags.Mte)]
    [InlineData("mp", VmFlags.Mpx)]
    [InlineData("dw", VmFlags.DenyWrite)]
    [InlineData("nl", VmFlags.NonLinear)]
    [InlineData("??", VmFlags.Unknown)]
    [InlineData("zz", VmFlags.Unknown)]
    internal void Each_code_is_one_flag(string code, VmFlags flag) => Assert.Equal(flag, Parse($" {code} "));

    [Fact]
    public void Every_flag_has_exactly_one_code()
    {
        var found = new List<VmFlags>();
        for (char a = 'a'; a <= 'z'; a++)
            for (char b = 'a'; b <= 'z'; b++)
                if (Parse($"{a}{b}") is var flag and not VmFlags.Unknown) found.Add(flag);
        Assert.Equal(Enum.GetValues<VmFlags>().Except([VmFlags.None, VmFlags.Unknown]).Order(), found.Order());
    }

    [Fact]
    public void A_line_is_the_union_of_its_codes() =>
        Assert.Equal(
            VmFlags.Read | VmFlags.Write | VmFlags.MayRead | VmFlags.MayWrite | VmFlags.MayExec | VmFlags.Account | VmFlags.SoftDirty,
            Parse(" rd wr mr mw me ac sd "));

    [Fact]
    public void No_code_is_no_flag() => Assert.Equal(VmFlags.None, Parse(" "));

    [Fact]
    public void A_new_code_does_not_hide_the_others() => Assert.Equal(VmFlags.Read | VmFlags.Unknown | VmFlags.Account, Parse("rd qq ac"));

    [Theory]
    [InlineData("r")]
    [InlineData("rd wrr")]
    public void A_word_that_is_no_code_is_a_FormatException(string codes) => Assert.Throws<FormatException>(() => Parse(codes));
}
