namespace Pvmmap;

/// <summary>One thing that a <see cref="Prognosis"/> has looked at.</summary>
/// <param name="Name">What.</param>
/// <param name="Pid">Of which process; 0: of the machine and the caller.</param>
/// <param name="Outlook">What the call would come to if all else were well.</param>
/// <param name="Detail">What was found, and what it means for the call.</param>
/// <param name="Cure">What to do about it; null where there is nothing to be done.</param>
public sealed record PairCheck(string Name, int Pid, Outlook Outlook, string Detail, string? Cure = null);
