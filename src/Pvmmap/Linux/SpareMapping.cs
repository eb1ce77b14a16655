namespace Pvmmap.Linux;

/// <summary>
/// Readable and writable memory of one size, of which one mapping is kept for the next who needs it: to unmap what another processor has just used takes an interrupt of that
/// processor, and tens of microseconds if it sleeps.
/// </summary>
/// <param name="bytes">Whole pages.</param>
internal sealed class SpareMapping(ulong bytes)
{
    private ulong spare;

    /// <summary>The kept one, with whatever is in it, or a new one.</summary>
    public SyscallResult Take()
    {
        ulong kept = Interlocked.Exchange(ref spare, 0);
        return kept != 0 ? new SyscallResult((long)kept) : Memory.Map(0, bytes, Memory.PROT_READ | Memory.PROT_WRITE, Memory.MAP_PRIVATE | Memory.MAP_ANONYMOUS);
    }

    /// <summary>Keeps it, or unmaps it if there is one already. Nobody uses it any more.</summary>
    public void Return(ulong address)
    {
        if (Interlocked.CompareExchange(ref spare, address, 0) != 0) Memory.Unmap(address, bytes);
    }
}
