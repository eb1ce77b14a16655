using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using Microsoft.Win32.SafeHandles;
using Pvmmap.ConformanceTests.Stage;
using Pvmmap.Holder;
using Pvmmap.Linux;

namespace Pvmmap.ConformanceTests;

/// <summary>What can be seen of the arm64 build on another machine: docs/limits.md says what that leaves.</summary>
public sealed partial class Arm64Tests(Theatre theatre) : Scene(theatre)
{
    private const int MachineOffset = 18;

    private static readonly string s_root = Theatre.RepositoryRoot;

    [Theory]
    [InlineData("src/Pvmmap/Linux/SystemCallNumbers.arm64.cs", 50)]
    [InlineData("src/Pvmmap.Holder/SystemCalls.arm64.cs", 40)]
    public void System_call_numbers_are_those_of_the_headers(string path, int least)
    {
        const string include = "/usr/aarch64-linux-gnu/include";
        Machine.Require(File.Exists($"{include}/asm/unistd.h"), "needs linux-libc-dev-arm64-cross");
        string source = Path.Combine(Theatre.NewFolder($"arm64-{Guid.NewGuid():N}"), "numbers.c");
        (string Name, string Number)[] ours = [.. Number().Matches(File.ReadAllText(Path.Combine(s_root, path))).Select(match => (match.Groups[1].Value, match.Groups[2].Value))];
        Assert.InRange(ours.Length, least, 200);
        File.WriteAllLines(source, ["#define __BITS_PER_LONG 64", "#include <asm/unistd.h>", "#ifdef __NR_fork", "wrong headers", "#endif",
            .. ours.Select(number => $"{number.Name} __NR_{number.Name}")]);
        (int code, string output) = Theatre.Run("gcc", "-E", "-P", "-nostdinc", "-isystem", include, source);
        Assert.True(code == 0, output);
        string[] theirs = [.. output.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)];
        Assert.Equal(ours.Select(number => number.Number), theirs.Select(line => line.Split(' ')[^1]));
    }

    [Fact]
    public void The_holder_is_built_and_its_sentinel_runs()
    {
        Machine.RequireProgram("aarch64-linux-gnu-ld");
        string folder = Theatre.NewFolder($"arm64-{Guid.NewGuid():N}");
        (int code, string output) = Theatre.Run(
            "dotnet", "build", Path.Combine(s_root, "src/Pvmmap.Holder"), "-c", "Release", "-p:HolderArchitecture=arm64", $"-p:ArtifactsPath={folder}", "--nologo");
        Assert.True(code == 0, output);
        byte[] image = File.ReadAllBytes(Path.Combine(folder, "obj/Pvmmap.Holder/release/holder.bin"));
        ImageHeader header = MemoryMarshal.Read<ImageHeader>(image.AsSpan((int)ImageHeader.Offset));
        Assert.Equal((ImageHeader.MagicValue, (uint)image.Length, (uint)Processor.EM_AARCH64), (header.Magic, header.Length, header.Machine));
        foreach (uint entry in (uint[])[header.HolderBoot, header.TracerMain, header.SentinelBecome]) Assert.InRange(entry, 0xc0u, header.Length);
        string program = Path.Combine(folder, "sentinel");
        byte[] elf = SentinelProcess.ToProgram(image);
        Assert.Equal(Processor.EM_AARCH64, BitConverter.ToUInt16(elf, MachineOffset));
        File.WriteAllBytes(program, elf);
        File.SetUnixFileMode(program, UnixFileMode.UserRead | UnixFileMode.UserExecute);
        Machine.RequireProgram("qemu-aarch64");
        // its socket is closed before it hears anything
        Assert.Equal(1, RunSentinel(program, null));
        // the fill is over
        Assert.Equal(0, RunSentinel(program, ControlState.Complete));
    }

    [Fact]
    public void Tool_and_library_are_built()
    {
        (int code, string output) = Theatre.Run(Path.Combine(s_root, "build"), "--runtime", "linux-arm64");
        Assert.True(code == 0, output);
        string[] files = [.. output.Split('\n').Where(line => line.Contains("/artifacts/linux-arm64/", StringComparison.Ordinal) && !line.EndsWith(".h", StringComparison.Ordinal))];
        Assert.Equal(2, files.Length);
        Assert.All(files, file => Assert.Equal(Processor.EM_AARCH64, BitConverter.ToUInt16(File.ReadAllBytes(file), MachineOffset)));
        Machine.RequireProgram("qemu-aarch64");
        // the image in it is the one for its processor, or this would end with another error
        (_, string doctor) = Theatre.Run("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", files[0], "doctor");
        Assert.Contains("Arm64", doctor, StringComparison.Ordinal);
    }

    /// <summary>Gives it the two descriptors that it waits for, unless there is no state; then closes the socket. Its exit code.</summary>
    private static unsafe int RunSentinel(string program, uint? state)
    {
        (FileDescriptor here, FileDescriptor there) = UnixSocket.Pair();
        using FileDescriptor control = Memfd.Create("pvmmap-arm64", ControlPage.Size);
        using (here)
        {
            int number = there.Number;
            Process emulator;
            using (there)
            {
                const int F_SETFD = 2;
                // as its standard input, by way of bash, which knows numbers above nine
                SystemCall.Invoke(SystemCall.SYS_fcntl, number, F_SETFD, 0);
                string script = string.Create(CultureInfo.InvariantCulture, $"exec qemu-aarch64 {program} <&{number} {number}<&-");
                emulator = Process.Start(new ProcessStartInfo("bash", ["-c", script]))!;
            }
            using (emulator)
            {
                if (state is { } end)
                {
                    UnixSocket.Send(here, (byte)'B', control, control);
                    Assert.Equal((byte)'R', UnixSocket.Receive(here));
                    ControlPage page;
                    long at = (byte*)&page.State - (byte*)&page;
                    using var file = new SafeFileHandle(control.Number, ownsHandle: false);
                    RandomAccess.Write(file, BitConverter.GetBytes(end), at);
                }
                here.Dispose();
                emulator.WaitForExit();
                return emulator.ExitCode;
            }
        }
    }

    [GeneratedRegex(@"public const (?:int|long) (?:SYS_)?(\w+) = (\d+);")]
    private static partial Regex Number();
}
