namespace Pvmmap.Holder.Freestanding;

/// <summary>
/// How long the holder looks for the next fault before it sleeps. One that comes meanwhile is answered without a wake-up, which takes long on another
/// processor. On the same one it only keeps waiting whoever has just got a page: then none comes, and the holder sleeps at once.
/// </summary>
internal static unsafe class Spin
{
    /// <summary>Some tens of microseconds.</summary>
    public const uint Most = 64;
    /// <summary>After so many empty rounds there is time for what nobody waits for.</summary>
    public const uint RoundsBeforeAround = 8;
    private const uint Least = 1;
    private const uint SleepsBetweenTrials = 32;

    public static uint Rounds(Service* service) => service->SpinRounds;

    public static bool IsWorthwhile(Service* service) => service->SpinRounds == Most;

    /// <summary>A message came after so many rounds.</summary>
    public static void Pays(Service* service, uint rounds)
    {
        if (rounds >= service->SpinRounds)
            return;
        service->SpinRounds = Most;
        service->Sleeps = 0;
    }

    /// <summary>None has come.</summary>
    public static void Ends(Service* service) => service->SpinRounds = ++service->Sleeps % SleepsBetweenTrials == 0 ? Most : Least;
}
