using System.Globalization;
using Pvmmap.Linux;

namespace Pvmmap.Procfs;

/// <summary>Where a process lives: its namespaces (namespaces(7)), as the inode numbers by which the kernel tells them apart, and its root folder.</summary>
/// <param name="User">Its user namespace; null, here and below, if the caller may not see it: that takes the right to read the process's memory layout.</param>
/// <param name="Pid">The pid namespace of the process itself.</param>
/// <param name="Mount">Its mount namespace.</param>
/// <param name="Root">Its root folder, as the caller's paths go; "/" also if it is the root of another mount namespace.</param>
internal sealed record ProcessPlace(ulong? User, ulong? Pid, ulong? Mount, string? Root)
{
    /// <summary>PROC_USER_INIT_INO: the first user namespace, whose capabilities are the ones that count for the kernel as a whole.</summary>
    public const ulong InitialUser = 0xEFFFFFFD;

    /// <summary>False too where it cannot be seen.</summary>
    public bool IsInInitialUserNamespace => User == InitialUser;

    public static ProcessPlace Read(int pid) => new(
        Namespace(pid, "user"), Namespace(pid, "pid"), Namespace(pid, "mnt"), Files.TryReadLink(string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/root")));

    private static ulong? Namespace(int pid, string kind) =>
        Files.TryReadLink(string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/ns/{kind}")) is { } link ? Parse(link) : null;

    /// <summary>The number in "user:[4026531837]".</summary>
    internal static ulong? Parse(string link)
    {
        int open = link.IndexOf(":[", StringComparison.Ordinal);
        return open > 0 && link.EndsWith(']') && ulong.TryParse(link.AsSpan(open + 2, link.Length - open - 3), NumberStyles.None, CultureInfo.InvariantCulture, out ulong inode)
            ? inode : null;
    }
}
