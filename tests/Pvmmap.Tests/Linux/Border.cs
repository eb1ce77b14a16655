namespace Pvmmap.Tests.Linux;

/// <summary>A constant of ours: "Type.Name", and its value as so many low bits.</summary>
internal sealed record BorderConstant(string Space, string Name, ulong Value, int Bytes)
{
    public string Type => Name[..Name.LastIndexOf('.')];

    public string Field => Name[(Name.LastIndexOf('.') + 1)..];
}

/// <summary>A structure of ours, or one of its fields: "Type.Name", where it lies and how long it is, in bytes.</summary>
internal sealed record BorderStructure(string Space, string Name, long Bytes, IReadOnlyList<BorderField> Fields);

internal sealed record BorderField(string Name, long Offset, long Bytes);

/// <summary>The constants and structures of an assembly.</summary>
internal sealed record Border(IReadOnlyList<BorderConstant> Constants, IReadOnlyList<BorderStructure> Structures, IReadOnlyList<string> Types);
