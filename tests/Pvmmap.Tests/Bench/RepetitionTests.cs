using Pvmmap.Bench;
using Xunit;

namespace Pvmmap.Tests.Bench;

public sealed class RepetitionTests
{
    [Fact]
    public void With_time_enough_all_that_are_wanted_behind_the_one_that_is_not_counted() =>
        Assert.Equal([0, 1, 2, 3, 4, 5], Repetition.Rounds(5, 2, TimeSpan.FromHours(1)));

    [Fact]
    public void Without_a_limit_all_that_are_wanted() => Assert.Equal([0, 1, 2, 3, 4, 5], Repetition.Rounds(5, 2, time: null));

    [Fact]
    public void When_the_time_is_over_the_least() => Assert.Equal([0, 1, 2], Repetition.Rounds(5, 2, TimeSpan.Zero));

    [Fact]
    public void Never_more_than_wanted() => Assert.Equal([0, 1], Repetition.Rounds(1, 2, TimeSpan.Zero));

    [Fact]
    public void The_round_in_which_the_time_ends_is_the_last()
    {
        var clock = new Clock();
        List<int> rounds = [];
        foreach (int round in Repetition.Rounds(1000, 2, TimeSpan.FromSeconds(10), clock))
        {
            rounds.Add(round);
            clock.Seconds += 2;
        }

        Assert.Equal([0, 1, 2, 3, 4], rounds);
    }

    private sealed class Clock : TimeProvider
    {
        public long Seconds { get; set; }

        public override long TimestampFrequency => 1;

        public override long GetTimestamp() => Seconds;
    }
}
