// The part of System that the C# compiler and ilc insist on: this assembly is its own core library. Nothing here ever runs.
// Not compiled into the tests, where the real System stands in its place.
#pragma warning disable CS0169, CS0649, CS9113, IDE0044, IDE0051, IDE0060, CA1050, CA1812

namespace System
{
    public class Object
    {
        private nint _methodTable;
    }

    public struct Void;
    public struct Boolean;
    public struct Char;
    public struct SByte;
    public struct Byte;
    public struct Int16;
    public struct UInt16;

    public struct Int32
    {
        public const int MaxValue = 0x7fffffff;
    }

    public struct UInt32
    {
        public const uint MaxValue = 0xffffffff;
    }

    public struct Int64;

    public struct UInt64
    {
        public const ulong MaxValue = 0xffffffffffffffff;
    }

    public struct IntPtr;
    public struct UIntPtr;
    public struct Single;
    public struct Double;
    public abstract class ValueType;
    public abstract class Enum : ValueType;
    public struct Nullable<T> where T : struct;

    public sealed class String
    {
        public readonly int Length;
    }

    public abstract class Array;
    public abstract class Delegate;
    public abstract class MulticastDelegate : Delegate;
    public struct RuntimeTypeHandle;
    public struct RuntimeMethodHandle;
    public struct RuntimeFieldHandle;
    public class Exception;
    public class Type;
    public class Attribute;
    public enum AttributeTargets;

    public sealed class AttributeUsageAttribute(AttributeTargets validOn) : Attribute
    {
        public bool AllowMultiple { get; set; }
        public bool Inherited { get; set; }
    }

    internal static unsafe class Buffer
    {
        private static void BulkMoveWithWriteBarrier(ref byte destination, ref byte source, nuint count) { }
        private static void Memmove(ref byte destination, ref byte source, nuint count) { }
        private static void ZeroMemory(byte* start, nuint count) { }
    }

    internal static class SpanHelpers
    {
        private static void ClearWithoutReferences(ref byte start, nuint count) { }
        private static void Fill(ref byte start, byte value, nuint count) { }
        private static void Memmove(ref byte destination, ref byte source, nuint count) { }
    }
}

namespace System.Diagnostics
{
    public sealed class ConditionalAttribute(string conditionString) : Attribute;
}

namespace System.Runtime
{
    internal sealed class RuntimeExportAttribute(string entry) : Attribute;
}

namespace System.Runtime.CompilerServices
{
    public class RuntimeHelpers
    {
        public static int OffsetToStringData => 12;
    }

    public static class RuntimeFeature
    {
        public const string UnmanagedSignatureCallingConvention = nameof(UnmanagedSignatureCallingConvention);
    }

    public static class IsVolatile;
    public sealed class SkipLocalsInitAttribute : Attribute;
    public sealed class UnsafeValueTypeAttribute : Attribute;

    public enum MethodImplOptions
    {
        NoInlining = 8,
    }

    public sealed class MethodImplAttribute(MethodImplOptions options) : Attribute;
}

namespace System.Runtime.InteropServices
{
    public enum LayoutKind
    {
        Sequential = 0,
        Explicit = 2,
        Auto = 3,
    }

    public sealed class StructLayoutAttribute(LayoutKind kind) : Attribute
    {
        public int Pack;
        public int Size;
    }

    public sealed class FieldOffsetAttribute(int offset) : Attribute;

    public sealed class UnmanagedType;
}

namespace Internal.Runtime.CompilerHelpers
{
    using System.Runtime;

    internal static class StartupCodeHelpers
    {
        [RuntimeExport("RhpReversePInvoke")]
        private static void ReversePInvoke(nint frame) { }

        [RuntimeExport("RhpReversePInvokeReturn")]
        private static void ReversePInvokeReturn(nint frame) { }

        [RuntimeExport("RhpPInvoke")]
        private static void PInvoke(nint frame) { }

        [RuntimeExport("RhpPInvokeReturn")]
        private static void PInvokeReturn(nint frame) { }

        [RuntimeExport("RhpFallbackFailFast")]
        private static void FailFast()
        {
            while (true)
            {
            }
        }
    }

    // Targets of the checks that ilc compiles in: none is reachable from code that divides, indexes and casts nothing at run time.
    internal static class ThrowHelpers
    {
        private static void ThrowInvalidProgramException(int id) => Stop();
        private static void ThrowInvalidProgramExceptionWithArgument(int id, string a) => Stop();
        private static void ThrowOverflowException() => Stop();
        private static void ThrowIndexOutOfRangeException() => Stop();
        private static void ThrowTypeLoadException(int id, string a, string b) => Stop();
        private static void ThrowTypeLoadExceptionWithArgument(int id, string a, string b, string c) => Stop();
        private static void ThrowDivideByZeroException() => Stop();
        private static void ThrowPlatformNotSupportedException() => Stop();
        private static void ThrowNotImplementedException() => Stop();
        private static void ThrowNullReferenceException() => Stop();
        private static void ThrowBodyRemoved() => Stop();
        private static void ThrowInstanceBodyRemoved() => Stop();
        private static void ThrowUnavailableType() => Stop();
        private static void ThrowFeatureBodyRemoved() => Stop();
        private static void ThrowMissingMethodException(int id, string a) => Stop();
        private static void ThrowMissingFieldException(int id, string a) => Stop();
        private static void ThrowFileNotFoundException(int id, string a) => Stop();
        private static void ThrowBadImageFormatException(int id) => Stop();
        private static void ThrowNotSupportedException() => Stop();
        private static void ThrowMarshalDirectiveException(int id) => Stop();
        private static void ThrowAmbiguousMatchException(int id) => Stop();
        private static void ThrowArgumentException() => Stop();
        private static void ThrowArgumentOutOfRangeException() => Stop();

        private static void Stop()
        {
            while (true)
            {
            }
        }
    }
}
