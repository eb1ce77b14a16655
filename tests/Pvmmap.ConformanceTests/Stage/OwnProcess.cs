namespace Pvmmap.ConformanceTests.Stage;

/// <summary>The test's own address space: the caller's side of push and pull.</summary>
public sealed unsafe class OwnProcess : AddressSpace
{
    public override int Pid => Environment.ProcessId;

    public override long Syscall(long number, params ReadOnlySpan<long> arguments) => Libc.Syscall(number, arguments);

    public override void Fill(ulong address, ulong length, ulong seed, ulong firstPage = 0, ulong step = 1) =>
        Pattern.Fill(address, length, seed, firstPage, step);

    public override Census Examine(ulong address, ulong length, ulong seed, ulong firstPage = 0, ulong step = 1) =>
        Pattern.Examine(address, length, seed, firstPage, step);

    public override byte[] Read(ulong address, int length) => new ReadOnlySpan<byte>((void*)address, length).ToArray();

    public override void Write(ulong address, ReadOnlySpan<byte> bytes) => bytes.CopyTo(new Span<byte>((void*)address, bytes.Length));

    public override void Touch(ulong address, ulong length, ulong stride = Page)
    {
        for (ulong at = address; at < address + length; at += stride) Volatile.Read(ref *(byte*)at);
    }
}
