namespace Pvmmap.ConformanceTests.Stage;

/// <summary>Filters of seccomp(2) that a puppet puts upon itself.</summary>
internal static class Seccomp
{
    private const long PR_SET_NO_NEW_PRIVS = 38, SECCOMP_SET_MODE_FILTER = 1;
    private const uint SECCOMP_RET_KILL_PROCESS = 0x8000_0000, SECCOMP_RET_ALLOW = 0x7fff_0000;
    private const ushort LoadWord = 0x20, JumpIfEqual = 0x15, Return = 0x06; // BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K

    /// <summary>Nothing but what a puppet needs to talk and to end: any other system call kills it.</summary>
    public static void Confine(Puppet puppet) => Install(puppet, SECCOMP_RET_KILL_PROCESS, Sys.recvfrom, Sys.sendto, Sys.exit_group);

    /// <summary>A filter that forbids nothing, as every process in a container has one.</summary>
    public static void Watch(Puppet puppet) => Install(puppet, SECCOMP_RET_ALLOW);

    private static void Install(Puppet puppet, uint otherwise, params ReadOnlySpan<long> allowed)
    {
        var program = new MemoryStream();
        using var writer = new BinaryWriter(program);
        Instruct(LoadWord, 0, 0); // seccomp_data.nr
        for (int i = 0; i < allowed.Length; i++) Instruct(JumpIfEqual, (byte)(allowed.Length - i), (uint)allowed[i]);
        Instruct(Return, 0, otherwise);
        Instruct(Return, 0, SECCOMP_RET_ALLOW);
        ulong scratch = puppet.Scratch;
        puppet.Write(scratch, [.. BitConverter.GetBytes((ulong)(program.Length / 8)), .. BitConverter.GetBytes(scratch + 16), .. program.ToArray()]);
        puppet.Must(puppet.Syscall(Sys.prctl, PR_SET_NO_NEW_PRIVS, 1), "prctl");
        puppet.Must(puppet.Syscall(Sys.seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)scratch), "seccomp");

        void Instruct(ushort code, byte ifTrue, uint k)
        {
            writer.Write(code);
            writer.Write(ifTrue);
            writer.Write((byte)0);
            writer.Write(k);
        }
    }
}
