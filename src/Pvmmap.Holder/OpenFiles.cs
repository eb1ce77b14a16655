using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Pvmmap.Linux;

namespace Pvmmap.Holder.Freestanding;

/// <summary>This process's descriptors.</summary>
internal static unsafe class OpenFiles
{
    private const long AT_FDCWD = -100;
    private const int Highest = 65535;
    private const long RLIMIT_NOFILE = 7;

    /// <summary>Closes every descriptor from a number on.</summary>
    public static void CloseFrom(KernelEntry call, int lowest, ulong without)
    {
        if ((without & KernelFeature.CloseRange) == 0 && call(SystemCalls.close_range, lowest, uint.MaxValue, 0, 0, 0, 0) >= 0)
            return;
        // Before Linux 5.9, or a filter. The table may be full: it is to be empty anyway.
        Kernel.Close(call, lowest);
        if (CloseListed(call, lowest))
            return;
        for (int file = lowest; file <= Highest; file++)
            Kernel.Close(call, file);
    }

    /// <summary>
    /// Each child of the target takes a descriptor, and the limit was made for somebody else. It is this process's own, in a move too. A hard limit below goes up with
    /// CAP_SYS_RESOURCE only; then it is the limit.
    /// </summary>
    [SkipLocalsInit]
    public static void RaiseLimit(KernelEntry call)
    {
        Words2 limit;
        limit.First = Loop.MostDescriptors;
        limit.Second = Loop.MostDescriptors;
        if (call(SystemCalls.prlimit64, 0, RLIMIT_NOFILE, (long)&limit, 0, 0, 0) >= 0 || call(SystemCalls.prlimit64, 0, RLIMIT_NOFILE, 0, (long)&limit, 0, 0) < 0)
            return;
        limit.First = limit.Second;
        call(SystemCalls.prlimit64, 0, RLIMIT_NOFILE, (long)&limit, 0, 0, 0);
    }

    // False without a /proc to list them.
    [SkipLocalsInit]
    private static bool CloseListed(KernelEntry call, int lowest)
    {
        Words2 path;
        path.First = 0x65732f636f72702f; // "/proc/se"
        path.Second = 0x64662f666c; // "lf/fd"
        int list = (int)call(SystemCalls.openat, AT_FDCWD, (long)&path, Kernel.O_CLOEXEC, 0, 0, 0);
        if (list < 0)
            return false;
        DirectoryBuffer buffer;
        byte* bytes = &buffer.First;
        long length;
        // The kernel goes by the numbers: none is passed over because another was closed.
        while ((length = call(SystemCalls.getdents64, list, (long)bytes, DirectoryBuffer.Bytes, 0, 0, 0)) > 0)
        {
            for (long at = 0; at < length; at += DirectoryBuffer.RecordLength(bytes + at))
            {
                int file = DirectoryBuffer.Number(bytes + at);
                if (file >= lowest && file != list)
                    Kernel.Close(call, file);
            }
        }
        Kernel.Close(call, list);
        return length == 0;
    }
}

/// <summary>struct linux_dirent64 records.</summary>
[StructLayout(LayoutKind.Sequential, Size = Bytes)]
internal unsafe struct DirectoryBuffer
{
    public const int Bytes = 2048;
    private const int RecordLengthOffset = 16;
    private const int NameOffset = 19;
    public byte First;

    public static ushort RecordLength(byte* record) => *(ushort*)(record + RecordLengthOffset);

    /// <summary>The name of the entry as a number; 0 if it is none.</summary>
    public static int Number(byte* record)
    {
        int number = 0;
        for (byte* text = record + NameOffset; *text != 0; text++)
        {
            if (*text < '0' || *text > '9')
                return 0;
            number = number * 10 + (*text - '0');
        }
        return number;
    }
}
