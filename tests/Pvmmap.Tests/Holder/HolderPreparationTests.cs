using Pvmmap.Holder;
using Xunit;

namespace Pvmmap.Tests.Holder;

public sealed class HolderPreparationTests
{
    [Fact]
    public void What_fails_ahead_of_its_turn_is_done_again_and_said_when_it_is()
    {
        int tries = 0;
        using HolderPreparation preparation = new(() =>
        {
            if (++tries <= 2) throw new PvmmapException(Errno.ESRCH, "test");
        });
        preparation.TryComplete();
        Assert.Equal(1, tries);
        Assert.Equal(Errno.ESRCH, Assert.Throws<PvmmapException>(preparation.Complete).Errno);
        preparation.Complete();
        Assert.Equal(3, tries);
        preparation.Complete();
        Assert.Equal(3, tries);
    }

    [Fact]
    public void Each_holder_has_a_control_page_of_its_own()
    {
        using HolderPreparation preparation = new(() => { });
        preparation.Complete();
        using ControlMapping first = preparation.TakeControl(), second = preparation.TakeControl();
        Assert.NotEqual(first.StateWord, second.StateWord);
    }
}
