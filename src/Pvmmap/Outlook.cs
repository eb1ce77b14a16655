namespace Pvmmap;

/// <summary>What a call between two processes will come to.</summary>
public enum Outlook
{
    /// <summary>It works, and the target is filled when it touches the pages and in the background.</summary>
    FilledLazily,

    /// <summary>It works, and every page is in place before the call returns.</summary>
    CopiedInTheCall,

    /// <summary>It fails, and touches nothing.</summary>
    Refused,

    /// <summary>It works, and the kernel makes it: source and target share the pages, copy-on-write.</summary>
    Shared,
}
