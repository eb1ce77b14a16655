namespace Pvmmap.Linux;

/// <summary>memfd_create(2).</summary>
internal static unsafe class Memfd
{
    public const int MFD_CLOEXEC = 1;

    public static FileDescriptor Create(string name, long size)
    {
        Span<byte> bytes = stackalloc byte[64];
        int length = System.Text.Encoding.ASCII.GetBytes(name, bytes);
        bytes[length] = 0;
        FileDescriptor fd;
        fixed (byte* text = bytes)
            fd = FileDescriptor.From(SystemCall.Invoke(SystemCall.SYS_memfd_create, (long)text, MFD_CLOEXEC), "make a memfd");
        SyscallResult grown = SystemCall.InvokeUninterrupted(SystemCall.SYS_ftruncate, fd.Number, size);
        if (grown.Failed)
        {
            fd.Dispose();
            grown.OrThrow("size a memfd");
        }
        return fd;
    }
}
