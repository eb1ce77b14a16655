using System.Diagnostics;
using System.Runtime.InteropServices;
using Iced.Intel;
using Pvmmap.Holder;
using Pvmmap.Holder.Freestanding;
using Pvmmap.Linux;
using Xunit;

namespace Pvmmap.Tests.Holder;

/// <summary>The very bytes that ship.</summary>
public sealed unsafe class ImageTests
{
    private static readonly HolderImage Image = HolderImage.InThisProcess;

    [Fact]
    public void The_header_names_entry_points_within_the_image()
    {
        ImageHeader header = MemoryMarshal.Read<ImageHeader>(Image.Code.AsSpan((int)ImageHeader.Offset));
        Assert.Equal(ImageHeader.MagicValue, header.Magic);
        Assert.Equal((uint)Image.Code.Length, header.Length);
        uint code = ImageHeader.Offset + (uint)sizeof(ImageHeader);
        foreach (uint entry in new[] { header.HolderBoot, header.TracerMain }) Assert.InRange(entry, code, header.Length - 1);
        // The compiler tests the low bits of a function pointer.
        Assert.Equal(0u, header.CloneCall % 4);
        Assert.InRange(header.CloneCall, 1u, ImageHeader.Offset - 1);
    }

    [Fact]
    public void The_system_call_stub_moves_seven_arguments() => Assert.Equal(
        [
            "mov rax,rdi", "mov rdi,rsi", "mov rsi,rdx", "mov rdx,rcx", "mov r10,r8", "mov r8,r9", "mov r9,[rsp+8]", "syscall", "ret",
        ],
        Decode(0, 9));

    [Fact]
    public void The_clone_stub_starts_the_child_on_its_own_stack()
    {
        int start = (int)MemoryMarshal.Read<ImageHeader>(Image.Code.AsSpan((int)ImageHeader.Offset)).CloneCall;
        Assert.Equal(
            [
                "and rsi,0FFFFFFFFFFFFFFF0h", "sub rsi,10h", "mov [rsi],rdx", "mov [rsi+8],rcx", "xor edx,edx", "xor r10d,r10d", "xor r8d,r8d",
                "mov eax,38h", "syscall", "test rax,rax", "je short 0000000000000044h", "ret",
                "xor ebp,ebp", "pop rax", "pop rdi", "call rax", "xor edi,edi", "mov eax,3Ch", "syscall", "ud2",
            ],
            Decode(start, 20));
    }

    [Fact]
    public void The_stub_calls_the_kernel()
    {
        var call = (delegate*<long, long, long, long, long, long, long, long>)Image.SyscallStub;
        Assert.Equal(Environment.ProcessId, call(SystemCalls.getpid, 0, 0, 0, 0, 0, 0));
        Assert.Equal(-9, call(SystemCalls.close, -1, 0, 0, 0, 0, 0));
        // All six arguments: an anonymous mapping has a file of -1 and an offset of a page multiple.
        long at = call(SystemCalls.mmap, 0, 4096, 3, 0x22, -1, 0);
        Assert.True(at > 0);
        Assert.Equal(Kernel.EINVAL, call(SystemCalls.mmap, 0, 4096, 3, 0x22, -1, 1));
        Assert.Equal(0, call(SystemCalls.munmap, at, 4096, 0, 0, 0, 0));
    }

    [Fact]
    public void The_tracer_process_runs_system_calls_until_told_to_stop()
    {
        const long cloneVmFilesFs = 0x100 | 0x400 | 0x200;
        const nuint stackBytes = 64 * 1024;
        void* stack = NativeMemory.AlignedAlloc(stackBytes, 4096);
        TracerMailbox* mailbox = (TracerMailbox*)NativeMemory.AllocZeroed((nuint)sizeof(TracerMailbox));
        mailbox->CallerPid = Environment.ProcessId;
        mailbox->Syscall = Image.SyscallStub;
        var clone = (delegate*<long, ulong, ulong, ulong, long>)Image.CloneCall;
        long tracer = clone(cloneVmFilesFs, (ulong)stack + stackBytes, Image.TracerMain, (ulong)mailbox);
        Assert.True(tracer > 0);
        Assert.Equal(tracer, Ask(mailbox, SystemCalls.getpid, 0));
        Assert.Equal(Environment.ProcessId, Ask(mailbox, SystemCalls.getppid, 0));
        Assert.Equal(-9, Ask(mailbox, SystemCalls.close, -1));
        Assert.Equal(0, Ask(mailbox, TracerMailbox.Stop, 0));
        const long wall = 0x40000000;
        var call = (delegate*<long, long, long, long, long, long, long, long>)Image.SyscallStub;
        int status = -1;
        Assert.Equal(tracer, call(SystemCalls.wait4, tracer, (long)&status, wall, 0, 0, 0));
        Assert.Equal(0, status);
        NativeMemory.AlignedFree(stack);
        NativeMemory.Free(mailbox);
    }

    [Fact]
    public void An_object_with_an_absolute_address_fails_the_build()
    {
        string check = Path.Combine(AppContext.BaseDirectory, "programs", "check-relocations.sh");
        string directory = Directory.CreateTempSubdirectory("pvmmap-image-").FullName;
        try
        {
            Assert.Equal(0, Check("ret", out _));
            Assert.Equal(1, Check(".quad elsewhere", out string message));
            Assert.Contains("R_X86_64_64", message, StringComparison.Ordinal);
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }

        int Check(string code, out string message)
        {
            string source = Path.Combine(directory, "code.s"), made = Path.Combine(directory, "code.o");
            File.WriteAllText(source, $".section __managedcode,\"ax\"\n{code}\n");
            if (Run("as", out _, "-o", made, source) is not 0) Assert.Skip("needs as (binutils)");
            return Run("sh", out message, check, made) ?? -1;
        }
    }

    private static int? Run(string program, out string error, params string[] arguments)
    {
        error = "";
        try
        {
            using Process process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true })!;
            error = process.StandardError.ReadToEnd();
            process.WaitForExit();
            return process.ExitCode;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return null;
        }
    }

    private static long Ask(TracerMailbox* mailbox, long number, long argument)
    {
        mailbox->Number = number;
        mailbox->A1 = argument;
        uint request = mailbox->Request + 1;
        Volatile.Write(ref mailbox->Request, request);
        SystemCall.Invoke(SystemCalls.futex, (long)&mailbox->Request, 1, 1);
        while (Volatile.Read(ref mailbox->Answer) != request) Thread.Yield();
        return mailbox->Result;
    }

    private static string[] Decode(int start, int count)
    {
        Decoder decoder = Decoder.Create(64, Image.Code[start..], (ulong)start);
        IntelFormatter formatter = new();
        string[] lines = new string[count];
        for (int i = 0; i < count; i++)
        {
            StringOutput output = new();
            formatter.Format(decoder.Decode(), output);
            lines[i] = output.ToStringAndReset();
        }
        return lines;
    }
}
