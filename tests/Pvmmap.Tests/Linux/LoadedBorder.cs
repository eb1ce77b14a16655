using System.Globalization;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Pvmmap.Tests.Linux;

/// <summary>The border of an assembly that runs here, by reflection.</summary>
internal static class LoadedBorder
{
    public static Border Of(Assembly assembly)
    {
        Type[] types = Array.FindAll(assembly.GetTypes(), type =>
            type.Namespace?.StartsWith("Pvmmap", StringComparison.Ordinal) == true
            && !type.IsDefined(typeof(CompilerGeneratedAttribute), inherit: false));
        return new Border(
            [.. types.Where(type => !type.IsEnum || type == typeof(Errno)).SelectMany(Constants)],
            [.. types.Where(type => type is { IsValueType: true, IsEnum: false, IsByRefLike: false, IsGenericType: false }).Select(Structure)],
            [.. types.Select(Name)]);
    }

    private static IEnumerable<BorderConstant> Constants(Type type) =>
        type.GetFields(BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly)
            .Where(field => field.IsLiteral)
            .Select(field => (field.Name, Value: field.GetRawConstantValue()))
            .Where(constant => constant is { Name: not nameof(Errno.None), Value: not (null or string or bool or char or float or double) })
            .Select(constant => new BorderConstant(
                type.Namespace!, $"{Name(type)}.{constant.Name}", Bits(constant.Value!), Marshal.SizeOf(constant.Value!)));

    private static ulong Bits(object value) =>
        value is ulong bits ? bits : unchecked((ulong)Convert.ToInt64(value, CultureInfo.InvariantCulture));

    private static BorderStructure Structure(Type type)
    {
        FieldInfo[] fields = type.GetFields(BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic);
        // What holds references or has no layout of its own never meets the kernel; it has to be named as ours like the rest.
        bool blittable = fields.Length != 0 && !type.IsAutoLayout
            && !Array.Exists(fields, field => field.FieldType.IsClass || field.FieldType.IsGenericType);
        BorderField Place(FieldInfo field) => new($"{Name(type)}.{field.Name}", Marshal.OffsetOf(type, field.Name), Bytes(field.FieldType));
        return blittable
            ? new BorderStructure(type.Namespace!, Name(type), Marshal.SizeOf(type), [.. fields.Select(Place)])
            : new BorderStructure(type.Namespace!, Name(type), 0, []);
    }

    private static long Bytes(Type type) => type.IsPointer ? nint.Size : Marshal.SizeOf(type.IsEnum ? Enum.GetUnderlyingType(type) : type);

    private static string Name(Type type) => type.DeclaringType is { } outer ? $"{Name(outer)}.{type.Name}" : type.Name;
}
