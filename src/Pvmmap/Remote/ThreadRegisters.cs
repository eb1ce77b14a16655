namespace Pvmmap.Remote;

/// <summary>The registers of a stopped thread, as ptrace(2) gives them.</summary>
/// <param name="Tid">Thread id.</param>
/// <param name="General">struct user_regs_struct, as it was found.</param>
/// <param name="FloatingPoint">NT_PRFPREG; empty if the thread was gone.</param>
/// <param name="Extended">NT_X86_XSTATE; empty if the processor has none.</param>
/// <param name="StopSignal">The signal that had stopped it before (SIGSTOP and its like); 0 if it was not.</param>
/// <param name="InSystemCall">It was in a system call, or had just come out of one.</param>
/// <param name="BlockedSignals">Its signal mask.</param>
internal sealed record ThreadRegisters(int Tid, byte[] General, byte[] FloatingPoint, byte[] Extended, int StopSignal, bool InSystemCall, ulong BlockedSignals);
