using Microsoft.Diagnostics.Runtime;
using Pvmmap.Snapshots;

namespace Pvmmap.Diagnostics;

/// <summary>A snapshot as ClrMD reads it.</summary>
public static class SnapshotDataTarget
{
    internal const string Operation = "read the .NET runtime";

    /// <summary>The symbol of every program that is compiled with NativeAOT.</summary>
    private const string NativeAotSymbol = "DotNetRuntimeDebugHeader";

    /// <summary>
    /// Everything of ClrMD that a dump file allows: memory, modules, threads with their registers. Nothing is looked for on symbol servers unless the options say
    /// so. The snapshot must live for as long as this does, and stays the caller's to dispose of.
    /// </summary>
    public static DataTarget Create(ProcessSnapshot snapshot, DataTargetOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        return new DataTarget(new SnapshotDataReader(snapshot), options ?? new DataTargetOptions());
    }

    /// <summary>The .NET runtime in a snapshot; its <see cref="ClrRuntime.DataTarget"/> is the caller's to dispose of too.</summary>
    /// <param name="snapshot">Must live for as long as the runtime is used.</param>
    /// <param name="dacPath">
    /// The data access library (libmscordaccore.so) of exactly the runtime's version. If null it is the one beside the process's libcoreclr.so, provided that
    /// only root and the caller can have written it: it is loaded into this process.
    /// </param>
    /// <exception cref="PvmmapException">
    /// EINVAL: not a .NET process. EOPNOTSUPP: compiled with NativeAOT. ENOENT: no data access library. EACCES: one that others may write. ENODEV: one that does not fit.
    /// </exception>
    public static ClrRuntime CreateRuntime(ProcessSnapshot snapshot, string? dacPath = null)
    {
        DataTarget target = Create(snapshot);
        try
        {
            ClrInfo runtime = target.ClrVersions.FirstOrDefault() ?? throw None(target, snapshot);
            dacPath ??= DacFile.Find(snapshot.Identity, runtime);
            return Load(runtime, dacPath, snapshot);
        }
        catch
        {
            target.Dispose();
            throw;
        }
    }

    private static ClrRuntime Load(ClrInfo runtime, string dacPath, ProcessSnapshot snapshot)
    {
        PvmmapException Failure(Errno errno, string hint) => new(errno, Operation, snapshot.Identity.ProcessId, hint: hint);
        if (!File.Exists(dacPath)) throw Failure(Errno.ENOENT, $"there is no {dacPath}");
        string? version = RuntimeVersion.InMemory(snapshot, runtime.ModuleInfo), dacVersion = RuntimeVersion.OfFile(dacPath);
        if (version is not null && version != dacVersion)
        {
            bool replaced = snapshot.Ranges.Any(range => SnapshotModules.IsDeleted(range) && SnapshotModules.Path(range) == runtime.ModuleInfo.FileName);
            throw Failure(Errno.ENODEV, $"{dacPath} is {(dacVersion is null ? "of no known version" : $"of version {dacVersion}")}, the runtime of {version}"
                + $"{(replaced ? ", which was replaced on disk after the process had started" : "")}; name the {DacFile.Name} of that version");
        }

        try
        {
            // ClrMD's own comparison looks for the runtime's version where builds of late do not have it
            return runtime.CreateRuntime(dacPath, ignoreMismatch: true);
        }
        catch (ClrDiagnosticsException e)
        {
            throw Failure(Errno.ENODEV, $"{dacPath} cannot read it: {e.Message}");
        }
    }

    private static PvmmapException None(DataTarget target, ProcessSnapshot snapshot)
    {
        bool compiled = target.EnumerateModules().Any(module => module.GetExportSymbolAddress(NativeAotSymbol) != 0);
        return compiled
            ? new PvmmapException(Errno.EOPNOTSUPP, Operation, snapshot.Identity.ProcessId,
                hint: "it is compiled with NativeAOT, which has no library that knows its data structures; a core dump and a native debugger can read it")
            : new PvmmapException(Errno.EINVAL, Operation, snapshot.Identity.ProcessId, hint: "it is not a .NET process: libcoreclr.so is not mapped");
    }
}
