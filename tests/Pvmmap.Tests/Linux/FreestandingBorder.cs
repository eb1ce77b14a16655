using System.Collections.Immutable;
using System.Reflection;
using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;

namespace Pvmmap.Tests.Linux;

/// <summary>
/// The border of the freestanding assembly, from its metadata: it has a System namespace of its own and cannot be loaded. Fields are
/// laid out here as ilc lays them out: each at the next multiple of its alignment, unless the offsets are explicit.
/// </summary>
internal sealed class FreestandingBorder : ISignatureTypeProvider<FreestandingBorder.Layout, object?>
{
    private readonly MetadataReader _reader;

    private FreestandingBorder(MetadataReader reader) => _reader = reader;

    internal readonly record struct Layout(long Bytes, long Alignment);

    public static Border Of(string path)
    {
        using FileStream file = File.OpenRead(path);
        using var image = new PEReader(file);
        MetadataReader reader = image.GetMetadataReader();
        return new FreestandingBorder(reader).Read();
    }

    private Border Read()
    {
        TypeDefinitionHandle[] types = [.. _reader.TypeDefinitions.Where(handle => Space(handle).StartsWith("Pvmmap", StringComparison.Ordinal))];
        return new Border(
            [.. types.Where(type => Base(type) != "Enum").SelectMany(Constants)],
            [.. types.Where(type => Base(type) == "ValueType").Select(Structure)],
            [.. types.Select(Name)]);
    }

    private IEnumerable<BorderConstant> Constants(TypeDefinitionHandle type)
    {
        foreach (FieldDefinitionHandle handle in _reader.GetTypeDefinition(type).GetFields())
        {
            FieldDefinition field = _reader.GetFieldDefinition(handle);
            if (field.GetDefaultValue().IsNil) continue;
            Constant constant = _reader.GetConstant(field.GetDefaultValue());
            BlobReader blob = _reader.GetBlobReader(constant.Value);
            (ulong value, int bytes) = constant.TypeCode switch
            {
                ConstantTypeCode.Byte => (blob.ReadByte(), 1),
                ConstantTypeCode.SByte => (unchecked((ulong)blob.ReadSByte()), 1),
                ConstantTypeCode.Int16 => (unchecked((ulong)blob.ReadInt16()), 2),
                ConstantTypeCode.UInt16 => (blob.ReadUInt16(), 2),
                ConstantTypeCode.Int32 => (unchecked((ulong)blob.ReadInt32()), 4),
                ConstantTypeCode.UInt32 => (blob.ReadUInt32(), 4),
                ConstantTypeCode.Int64 => (unchecked((ulong)blob.ReadInt64()), 8),
                ConstantTypeCode.UInt64 => (blob.ReadUInt64(), 8),
                _ => (0UL, 0),
            };
            if (bytes != 0) yield return new BorderConstant(Space(type), $"{Name(type)}.{_reader.GetString(field.Name)}", value, bytes);
        }
    }

    private BorderStructure Structure(TypeDefinitionHandle type)
    {
        List<BorderField> fields = [];
        Layout layout = LayOut(type, fields);
        return new BorderStructure(Space(type), Name(type), layout.Bytes, fields);
    }

    private Layout LayOut(TypeDefinitionHandle handle, List<BorderField>? fields = null)
    {
        TypeDefinition type = _reader.GetTypeDefinition(handle);
        long end = 0, alignment = 1;
        foreach (FieldDefinitionHandle fieldHandle in type.GetFields())
        {
            FieldDefinition field = _reader.GetFieldDefinition(fieldHandle);
            if (field.Attributes.HasFlag(FieldAttributes.Static)) continue;
            Layout layout = field.DecodeSignature(this, null);
            long offset = field.GetOffset() >= 0 ? field.GetOffset() : Align(end, layout.Alignment);
            fields?.Add(new BorderField($"{Name(handle)}.{_reader.GetString(field.Name)}", offset, layout.Bytes));
            end = Math.Max(end, offset + layout.Bytes);
            alignment = Math.Max(alignment, layout.Alignment);
        }
        return new Layout(Math.Max(Align(end, alignment), type.GetLayout().Size), alignment);
    }

    private static long Align(long offset, long alignment) => (offset + alignment - 1) / alignment * alignment;

    private string Space(TypeDefinitionHandle handle)
    {
        TypeDefinition type = _reader.GetTypeDefinition(handle);
        return type.GetDeclaringType().IsNil ? _reader.GetString(type.Namespace) : Space(type.GetDeclaringType());
    }

    private string Name(TypeDefinitionHandle handle)
    {
        TypeDefinition type = _reader.GetTypeDefinition(handle);
        string name = _reader.GetString(type.Name);
        return type.GetDeclaringType().IsNil ? name : $"{Name(type.GetDeclaringType())}.{name}";
    }

    private string Base(TypeDefinitionHandle handle)
    {
        EntityHandle parent = _reader.GetTypeDefinition(handle).BaseType;
        return parent.Kind == HandleKind.TypeDefinition && !parent.IsNil ? Name((TypeDefinitionHandle)parent) : "";
    }

    public Layout GetPrimitiveType(PrimitiveTypeCode typeCode) => typeCode switch
    {
        PrimitiveTypeCode.Boolean or PrimitiveTypeCode.Byte or PrimitiveTypeCode.SByte => new Layout(1, 1),
        PrimitiveTypeCode.Int16 or PrimitiveTypeCode.UInt16 or PrimitiveTypeCode.Char => new Layout(2, 2),
        PrimitiveTypeCode.Int32 or PrimitiveTypeCode.UInt32 or PrimitiveTypeCode.Single => new Layout(4, 4),
        _ => new Layout(8, 8),
    };

    public Layout GetTypeFromDefinition(MetadataReader reader, TypeDefinitionHandle handle, byte rawTypeKind) =>
        Base(handle) == "Enum" ? new Layout(4, 4) : LayOut(handle);

    public Layout GetModifiedType(Layout modifier, Layout unmodifiedType, bool isRequired) => unmodifiedType;

    public Layout GetPointerType(Layout elementType) => new(8, 8);

    public Layout GetFunctionPointerType(MethodSignature<Layout> signature) => new(8, 8);

    public Layout GetTypeFromReference(MetadataReader reader, TypeReferenceHandle handle, byte rawTypeKind) => throw Unexpected();

    public Layout GetTypeFromSpecification(MetadataReader reader, object? genericContext, TypeSpecificationHandle handle, byte rawTypeKind) =>
        throw Unexpected();

    public Layout GetArrayType(Layout elementType, ArrayShape shape) => throw Unexpected();

    public Layout GetByReferenceType(Layout elementType) => throw Unexpected();

    public Layout GetGenericInstantiation(Layout genericType, ImmutableArray<Layout> typeArguments) => throw Unexpected();

    public Layout GetGenericMethodParameter(object? genericContext, int index) => throw Unexpected();

    public Layout GetGenericTypeParameter(object? genericContext, int index) => throw Unexpected();

    public Layout GetPinnedType(Layout elementType) => throw Unexpected();

    public Layout GetSZArrayType(Layout elementType) => throw Unexpected();

    private static NotSupportedException Unexpected() => new("a field of a type that freestanding code has no use for");
}
