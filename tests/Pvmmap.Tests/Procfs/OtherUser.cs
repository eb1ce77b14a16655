using System.Runtime.InteropServices;
using Xunit;

namespace Pvmmap.Tests.Procfs;

/// <summary>Runs code as a user without rights, on a thread of its own.</summary>
internal static partial class OtherUser
{
    private const int PR_SET_DUMPABLE = 4;
    private const int Nobody = 65534;

    public static T Run<T>(Func<T> body)
    {
        T? result = default;
        Exception? failure = null;
        var thread = new Thread(() =>
        {
            // The system call itself changes one thread; setresuid() of libc changes them all.
            Assert.Equal(0, syscall(SetResUid, -1, Nobody, -1));
            try
            {
                result = body();
            }
            catch (Exception e)
            {
                failure = e;
            }
            Assert.Equal(0, syscall(SetResUid, -1, 0, -1));
            Assert.Equal(0, prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)); // taken away with the user
        });
        thread.Start();
        thread.Join();
        if (failure is not null) throw failure;
        return result!;
    }

    private static int SetResUid => RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 147 : 117;

#pragma warning disable IDE1006 // named as in libc
    [LibraryImport("libc")]
    private static partial nint syscall(nint number, nint a, nint b, nint c);

    [LibraryImport("libc")]
    private static partial int prctl(int option, nint a, nint b, nint c, nint d);
#pragma warning restore IDE1006
}
