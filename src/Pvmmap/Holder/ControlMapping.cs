using Pvmmap.Linux;
using Pvmmap.Procfs;

namespace Pvmmap.Holder;

/// <summary>The control page of one holder, mapped in this process.</summary>
internal sealed unsafe class ControlMapping : IDisposable
{
    private ulong at;
    private Vma? here;

    private ControlMapping(FileDescriptor memfd)
    {
        at = (ulong)Memory.Map(0, ControlPage.Size, Memory.PROT_READ | Memory.PROT_WRITE, Memory.MAP_SHARED, memfd.Number)
            .OrThrow("map a holder's control page");
    }

    ~ControlMapping() => Unmap();

    public ref ControlPage Page => ref *(ControlPage*)at;

    private Span<ControlContext> Contexts => new((void*)(at + ControlPage.ContextsOffset), ControlPage.MaximumContexts);

    /// <summary>The segment table; entries of length 0 are free.</summary>
    public Span<ControlSegment> Segments => new((void*)(at + ControlPage.SegmentsOffset), ControlPage.MaximumSegments);

    /// <summary>What holder and sentinel get; null once it is closed here, or if the page was opened and not made.</summary>
    public FileDescriptor? File { get; private set; }

    /// <summary>Whether somebody has the control page's file mapped there.</summary>
    public bool IsFileOf(Vma vma) => vma.HasFileOf(here ??= Maps.Read(Environment.ProcessId, new PageRange(at, at + PageRange.PageSize))[0]);

    /// <summary>Whether that is this mapping, and not another of the same page.</summary>
    public bool IsAt(PageRange range) => range.Start <= at && at < range.End;

    /// <summary>Makes a control page.</summary>
    public static ControlMapping Create()
    {
        FileDescriptor memfd = Memfd.Create(ControlPage.MemfdName, ControlPage.Size);
        try
        {
            ControlMapping mapping = new(memfd) { File = memfd };
            mapping.Page.AddressSpaceEnd = Processor.AddressSpaceEnd;
            mapping.Page.Without = KernelFeatures.Without;
            mapping.Page.Version = ControlPage.CurrentVersion;
            mapping.Page.Magic = ControlPage.MagicValue;
            return mapping;
        }
        catch
        {
            memfd.Dispose();
            throw;
        }
    }

    /// <summary>Everybody has it who needs it.</summary>
    public void CloseFile()
    {
        File?.Dispose();
        File = null;
    }

    /// <summary>Opens the control page of a running holder. Null if that process is none of our version, or has just ended.</summary>
    public static ControlMapping? Open(int holderPid)
    {
        string path = $"/proc/{holderPid}/fd/{HolderFds.Control}";
        FileDescriptor? memfd = null;
        try
        {
            if (new FileInfo(path).LinkTarget?.StartsWith("/memfd:" + ControlPage.MemfdName, StringComparison.Ordinal) != true) return null;
            memfd = Files.Open(path, Files.O_RDWR);
            ControlMapping mapping = new(memfd);
            if (mapping.Page.Magic == ControlPage.MagicValue && mapping.Page.Version == ControlPage.CurrentVersion) return mapping;
            mapping.Dispose();
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or PvmmapException)
        {
            return null;
        }
        finally
        {
            memfd?.Dispose();
        }
    }

    /// <summary>Has their first pages made, while there is nothing else to do: <see cref="Describe"/> is called while the target stands still.</summary>
    public void TouchTables()
    {
        Volatile.Read(ref Contexts[0].Alive);
        Volatile.Read(ref Segments[0].Length);
    }

    /// <summary>Writes the first tables, before the holder serves.</summary>
    public void Describe(params ReadOnlySpan<ControlSegment> segments)
    {
        Contexts[0] = new ControlContext { Fd = HolderFds.Userfaultfd, Alive = 1 };
        segments.CopyTo(Segments);
        Page.SegmentCount = (uint)segments.Length;
        Page.ContextCount = 1;
    }

    /// <summary>Every page is in place, written from here: no holder serves.</summary>
    public void MarkComplete(ulong bytes)
    {
        Page.BytesTotal = Page.BytesDone = bytes;
        Page.State = ControlState.Complete;
    }

    /// <summary>Where the state is in this process: a futex word.</summary>
    public ulong StateWord => (ulong)&((ControlPage*)at)->State;

    /// <summary>Sleeps until the state changes (futex), or the time is over.</summary>
    public void AwaitChangeOfState(TimeSpan timeout) => AwaitChangeOfState(Volatile.Read(ref Page.State), timeout);

    /// <summary>The same; returns at once if the state is another already.</summary>
    public void AwaitChangeOfState(uint from, TimeSpan timeout) => Futex.Wait(&((ControlPage*)at)->State, from, timeout);

    public void Dispose()
    {
        CloseFile();
        Unmap();
        GC.SuppressFinalize(this);
    }

    private void Unmap()
    {
        if (at != 0) Memory.Unmap(at, ControlPage.Size);
        at = 0;
    }
}
