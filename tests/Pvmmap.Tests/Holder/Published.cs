using Pvmmap.Tests.Holder;

namespace Pvmmap.Holder.Freestanding;

// What the tests compile the holder with: it may be killed between any two stores.
internal static unsafe partial class Published
{
    static partial void Before() => FakeKernel.BeforeStore();
}
