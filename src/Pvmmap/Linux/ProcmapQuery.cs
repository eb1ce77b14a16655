using System.Runtime.InteropServices;

namespace Pvmmap.Linux;

/// <summary>The PROCMAP_QUERY ioctl of /proc/PID/maps (Linux 6.11, linux/fs.h): one VMA, without printing those before it.</summary>
internal static unsafe class ProcmapQuery
{
    public const uint PROCMAP_QUERY = 0xc0686611;
    public const ulong PROCMAP_QUERY_VMA_READABLE = 1;
    public const ulong PROCMAP_QUERY_VMA_WRITABLE = 2;
    public const ulong PROCMAP_QUERY_VMA_EXECUTABLE = 4;
    public const ulong PROCMAP_QUERY_VMA_SHARED = 8;
    public const ulong PROCMAP_QUERY_COVERING_OR_NEXT_VMA = 0x10;

    /// <summary>struct procmap_query.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct Query
    {
        public ulong Size, QueryFlags, Address;
        public ulong Start, End, Flags, PageSize, Offset, Inode;
        public uint DeviceMajor, DeviceMinor;
        public uint NameSize, BuildIdSize;
        public ulong NameAddress, BuildIdAddress;
    }

    /// <summary>The VMA at an address, or the next one above it. ENOENT: there is none. ENOTTY: before Linux 6.11.</summary>
    public static Errno Find(FileDescriptor maps, ulong address, Span<byte> name, out Query query)
    {
        query = default;
        if (KernelFeatures.IsWithout(KernelFeature.ProcmapQuery)) return Errno.ENOTTY;
        fixed (byte* buffer = name)
        fixed (Query* argument = &query)
        {
            *argument = new Query
            {
                Size = (ulong)sizeof(Query),
                QueryFlags = PROCMAP_QUERY_COVERING_OR_NEXT_VMA,
                Address = address,
                NameSize = (uint)name.Length,
                NameAddress = (ulong)buffer,
            };
            return SystemCall.InvokeUninterrupted(SystemCall.SYS_ioctl, maps.Number, PROCMAP_QUERY, (long)argument).Errno;
        }
    }
}
