using Pvmmap.Procfs;
using Pvmmap.Remote;
using Xunit;

namespace Pvmmap.Tests.Remote;

/// <summary>The reason that is given for a refusal is the first rule of the kernel's that the caller fails.</summary>
public sealed class PtraceAccessTests
{
    private const ulong Container = 4026532999, Other = 4026533000, SysPtrace = 1UL << PtraceAccess.CAP_SYS_PTRACE;

    private static readonly ProcessStatus s_user = Status(1000, 100);

    private static readonly PtraceAccess s_equals = new(s_user, s_user, ProcessPlace.InitialUser, ProcessPlace.InitialUser, Dumpable: true, YamaScope: null);

    private static ProcessStatus Status(uint uid, uint gid, ulong capabilities = 0) => new()
    {
        RealUid = uid, EffectiveUid = uid, SavedUid = uid, FsUid = uid, RealGid = gid, EffectiveGid = gid, SavedGid = gid, FsGid = gid,
        CapPrm = capabilities, CapEff = capabilities,
    };

    private static void AssertWhy(string expected, PtraceAccess access)
    {
        (string why, string cure) = access.Explain();
        Assert.Contains(expected, why, StringComparison.Ordinal);
        Assert.NotEmpty(cure);
        // The hint of an error is both, with one semicolon between them.
        Assert.DoesNotContain(';', why);
    }

    public static TheoryData<string> OtherIds => ["real uid", "effective uid", "saved uid", "real gid", "effective gid", "saved gid"];

    [Theory]
    [MemberData(nameof(OtherIds))]
    public void All_six_ids_have_to_be_equal(string which) => AssertWhy("its user ids are", s_equals with
    {
        Target = which switch
        {
            "real uid" => s_user with { RealUid = 1 },
            "effective uid" => s_user with { EffectiveUid = 1 },
            "saved uid" => s_user with { SavedUid = 1 },
            "real gid" => s_user with { RealGid = 1 },
            "effective gid" => s_user with { EffectiveGid = 1 },
            _ => s_user with { SavedGid = 1 },
        },
    });

    [Fact]
    public void A_caller_with_another_user_for_files_is_told_so() => AssertWhy("for files 7 and 100", s_equals with { Caller = s_user with { FsUid = 7 } });

    [Fact]
    public void Not_dumpable() => AssertWhy("not dumpable", s_equals with { Dumpable = false });

    [Fact]
    public void More_capabilities_than_the_caller() => AssertWhy("has capabilities that the caller lacks (its permitted set is 2000", s_equals with { Target = s_user with { CapPrm = 0x2000 } });

    [Theory]
    [InlineData(1, false, "ptrace_scope is 1")]
    [InlineData(2, false, "ptrace_scope is 2")]
    [InlineData(3, false, "ptrace_scope is 3")]
    [InlineData(3, true, "ptrace_scope is 3")]
    [InlineData(1, true, "a security module")]
    [InlineData(2, true, "a security module")]
    [InlineData(0, false, "a security module")]
    [InlineData(null, false, "a security module")]
    public void Yama_is_to_blame_where_it_forbids_it(int? scope, bool capable, string expected) =>
        AssertWhy(expected, s_equals with { Caller = capable ? Status(1000, 100, SysPtrace) : s_user, YamaScope = scope });

    [Fact]
    public void In_a_container_the_roots_capabilities_do_not_reach_out_of_it()
    {
        PtraceAccess inside = s_equals with { Caller = Status(0, 0, ulong.MaxValue), Target = Status(0, 0, ulong.MaxValue), CallerUserNamespace = Container, TargetUserNamespace = null };
        Assert.False(inside.IsCapable);
        AssertWhy("user namespace of its own", inside);
        AssertWhy("user namespace of its own", inside with { TargetUserNamespace = Other });
        PtraceAccess neighbours = inside with { TargetUserNamespace = Container };
        Assert.True(neighbours.IsCapable);
        AssertWhy("a security module", neighbours);
    }

    [Theory]
    [InlineData(1)] // CAP_DAC_OVERRIDE
    [InlineData(2)] // CAP_DAC_READ_SEARCH
    public void The_files_of_others_take_a_capability_of_their_own(int capability)
    {
        PtraceAccess others = s_equals with { Caller = Status(0, 0, SysPtrace) };
        AssertWhy("take CAP_DAC_READ_SEARCH", others);
        AssertWhy("take CAP_DAC_READ_SEARCH", s_equals with { Caller = Status(1000, 100, SysPtrace), Dumpable = false });
        AssertWhy("a security module", others with { Caller = Status(0, 0, SysPtrace | 1UL << capability) });
    }

    [Fact]
    public void From_the_first_namespace_they_reach_into_every_other()
    {
        PtraceAccess outside = s_equals with { Caller = Status(0, 0, ulong.MaxValue), Target = Status(1000, 100, ulong.MaxValue), TargetUserNamespace = Container, Dumpable = false };
        Assert.True(outside.IsCapable);
        AssertWhy("a security module", outside);
    }

    [Fact]
    public void A_callers_namespace_that_cannot_be_seen_proves_nothing() =>
        Assert.False((s_equals with { Caller = Status(0, 0, SysPtrace), CallerUserNamespace = null, TargetUserNamespace = null }).IsCapable);
}
