using Pvmmap.Linux;
using Pvmmap.Procfs;

namespace Pvmmap.Target;

/// <summary>A region in a target that runs: nobody there knows of it, and nothing guards it yet.</summary>
internal sealed class RegionAhead : IDisposable
{
    private readonly int pid;

    private RegionAhead(FileDescriptor memory, int pid)
    {
        Memory = memory;
        this.pid = pid;
    }

    /// <summary>The target's mem, open for writing: it stands for the address space that the region is in, whatever becomes of the process.</summary>
    public FileDescriptor Memory { get; }

    /// <summary>Null until it is mapped, with its protections and attributes.</summary>
    public Region? Region { get; set; }

    /// <summary>False when the target has ended or called execve(): what lies there now, if anything does, is another program's.</summary>
    public bool IsThere
    {
        get
        {
            // Not of the region itself: what is read there for the first time is the zero page from then on, and stays. Nothing at all can be read when the address space
            // is gone, and otherwise nothing lies at 0, which is an error (mem_rw(), fs/proc/base.c).
            Span<byte> any = stackalloc byte[1];
            return Region is not null && Files.Read(Memory, any, 0).Raw != 0
                && Maps.Read(pid, Region.Range) is { Count: > 0 } there && there.TrueForAll(vma => !vma.IsFileBacked);
        }
    }

    /// <summary>Null where its memory may not be written in that way: /proc is read-only, a security module forbids it.</summary>
    public static RegionAhead? TryOpen(int pid)
    {
        SyscallResult opened = Files.TryOpen($"/proc/{pid}/mem", Files.O_RDWR);
        return opened.Failed ? null : new RegionAhead(new FileDescriptor(opened.Value), pid);
    }

    /// <summary>ESRCH if it is not there any more.</summary>
    public Region Confirm() => IsThere ? Region! : throw Region!.Gone(pid);

    /// <summary>Where pages are in it, the zero page too.</summary>
    public List<PageRange> Present()
    {
        SyscallResult opened = Files.TryOpen($"/proc/{pid}/pagemap", Files.O_RDONLY);
        if (opened.Failed) throw Region!.Gone(pid);
        using FileDescriptor pagemap = new(opened.Value);
        return PagemapScan.Populated(pagemap, pid, Region!.Range, unwanted: 0);
    }

    public void Dispose() => Memory.Dispose();
}
