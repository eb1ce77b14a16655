using System.Globalization;
using Pvmmap.Holder;
using Pvmmap.Procfs;
using Pvmmap.Remote;

namespace Pvmmap.Target;

/// <summary>Fills a region that cannot be guarded by a userfaultfd, before anybody sees it. Pages that hold nothing but zeros stay untouched.</summary>
internal static class PlainCopy
{
    private const int BatchPages = 64;
    private const int Page = (int)PageRange.PageSize;

    public static void Run(HolderProcess holder, PageRange source, IProcessCalls target, ulong destination)
    {
        using FileStream memory = Open(holder.Pid, "mem"), pagemap = Open(holder.Pid, "pagemap");
        byte[] entries = new byte[BatchPages * sizeof(ulong)], content = new byte[Page];
        ulong done = 0;
        for (ulong at = source.Start; at < source.End;)
        {
            int pages = (int)Math.Min(BatchPages, (source.End - at) / PageRange.PageSize);
            pagemap.Position = (long)(at / PageRange.PageSize * sizeof(ulong));
            pagemap.ReadExactly(entries.AsSpan(0, pages * sizeof(ulong)));
            for (int i = 0; i < pages; i++)
            {
                PagemapEntry entry = new(BitConverter.ToUInt64(entries, i * sizeof(ulong)));
                if (!entry.Present && !entry.Swapped) continue;
                ulong address = at + (ulong)(i * Page);
                Span<byte> page = content;
                // mem, unlike process_vm_readv, also reads what the source had protected against itself.
                memory.Position = (long)address;
                ReadPage(memory, page, holder.Pid, address);
                if (!page.ContainsAnyExcept((byte)0)) continue;
                target.Write(destination + (address - source.Start), page);
                done += PageRange.PageSize;
            }
            at += (ulong)(pages * Page);
        }
        ref ControlPage control = ref holder.Control.Page;
        control.BytesTotal = control.BytesDone = done;
        control.State = ControlState.Complete;
    }

    private static void ReadPage(FileStream memory, Span<byte> page, int pid, ulong address)
    {
        try
        {
            memory.ReadExactly(page);
        }
        catch (IOException)
        {
            throw new PvmmapException(Errno.EFAULT, "copy the range", pid, new PageRange(address, address + PageRange.PageSize),
                "a page there cannot be read: a guard page, or broken memory");
        }
    }

    private static FileStream Open(int pid, string name) =>
        new(string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/{name}"), FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
}
