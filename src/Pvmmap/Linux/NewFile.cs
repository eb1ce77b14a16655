using System.Globalization;

namespace Pvmmap.Linux;

/// <summary>
/// A file that has its name only when it is whole. Until then it has none (O_TMPFILE), and is gone when it is closed, also by a SIGKILL; where the
/// file system cannot do that, it is called .pvmmap.PID.NUMBER.partial and deleted when disposed.
/// </summary>
internal sealed class NewFile : IDisposable
{
    private static int s_count;

    private readonly string _path;
    private readonly bool _overwrite;
    private readonly FileDescriptor _descriptor;
    private string? _partial;

    private NewFile(string path, bool overwrite, FileDescriptor descriptor, string? partial)
    {
        (_path, _overwrite, _descriptor, _partial) = (path, overwrite, descriptor, partial);
        Content = new DescriptorStream(descriptor, path, seekable: true);
    }

    public DescriptorStream Content { get; }

    /// <summary>Begins a file.</summary>
    /// <param name="path">Its name in the end.</param>
    /// <param name="overwrite">A file of that name is replaced.</param>
    /// <param name="unnamed">False has it begin with a name, as where the file system has no O_TMPFILE.</param>
    /// <exception cref="PvmmapException">EEXIST: something of that name is there, or something that is not a regular file. Or what open(2) says.</exception>
    public static NewFile Begin(string path, bool overwrite, bool unnamed = true)
    {
        path = Path.GetFullPath(path);
        RequireFree(path, overwrite);
        string folder = Path.GetDirectoryName(path) ?? "/";
        SyscallResult made = unnamed ? FileOutput.TryCreateUnnamed(folder) : new SyscallResult(-(long)Errno.EOPNOTSUPP);
        if (!made.Failed) return new NewFile(path, overwrite, new FileDescriptor(made.Value), null);

        // EISDIR is an old kernel's, EOPNOTSUPP and EINVAL file systems'. Anything else says what is wrong with the folder.
        if (made.Errno is not (Errno.EOPNOTSUPP or Errno.EISDIR or Errno.EINVAL)) throw Failure(made.Errno, path);
        string partial = Partial(path);
        File.Delete(partial); // of a process that was killed and had this number
        made = FileOutput.TryCreate(partial);
        return made.Failed ? throw Failure(made.Errno, path) : new NewFile(path, overwrite, new FileDescriptor(made.Value), partial);
    }

    /// <summary>Gives it its name, in one step: it is whole.</summary>
    public void Publish()
    {
        Content.Settle();
        if (_partial is null)
        {
            string name = _overwrite ? Partial(_path) : _path;
            if (_overwrite) File.Delete(name);
            Errno errno = FileOutput.TryLink(_descriptor, name);
            if (errno != Errno.None) throw Failure(errno, _path);
            if (!_overwrite) return;
            _partial = name;
        }
        Errno renamed = FileOutput.TryRename(_partial, _path, _overwrite);
        if (renamed != Errno.None) throw Failure(renamed, _path);
        _partial = null;
    }

    public void Dispose()
    {
        if (_partial is not null) File.Delete(_partial);
        Content.Dispose();
        _descriptor.Dispose();
    }

    private static void RequireFree(string path, bool overwrite)
    {
        Errno errno = FileOutput.TryFind(path, out bool isRegular);
        if (errno == Errno.ENOENT) return;
        if (errno != Errno.None) throw Failure(errno, path);
        if (!isRegular) throw new PvmmapException(Errno.EEXIST, $"write {path}", hint: "that is no regular file; name one, or write to standard output");
        if (!overwrite) throw Failure(Errno.EEXIST, path);
    }

    // Short, whatever the name, and of this one file: a process may write several.
    private static string Partial(string path) => Path.Combine(
        Path.GetDirectoryName(path) ?? "/", string.Create(CultureInfo.InvariantCulture, $".pvmmap.{Environment.ProcessId}.{Interlocked.Increment(ref s_count)}.partial"));

    private static PvmmapException Failure(Errno errno, string path) => new(errno, $"write {path}", hint: errno switch
    {
        Errno.EEXIST => "it is there already; choose another name, or have it replaced (--force)",
        Errno.ENOENT => Directory.Exists(Path.GetDirectoryName(path) ?? "/") ? "no files can be made there" : "there is no such folder",
        Errno.ENOTDIR => "part of the path is no folder",
        Errno.ENAMETOOLONG => "the name is longer than the file system takes; choose a shorter one",
        Errno.EROFS => "the file system is mounted read-only; write elsewhere",
        Errno.EACCES or Errno.EPERM => "the caller may not write there",
        Errno.ENOSPC => "no space is left there; free some or write elsewhere",
        _ => null,
    });
}
