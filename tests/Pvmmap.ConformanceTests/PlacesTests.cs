using System.Globalization;
using System.Text.Json;
using Pvmmap.ConformanceTests.Cli;
using Pvmmap.ConformanceTests.Stage;

namespace Pvmmap.ConformanceTests;

/// <summary>
/// Who may do what to whom, and from where: users, groups, capabilities, namespaces, chroot, filters, debuggers. In each place `pvmmap doctor --from
/// --to` tells beforehand, without touching anybody, what the call then does.
/// </summary>
public sealed class PlacesTests(Theatre theatre) : Scene(theatre)
{
    private const ulong Length = 4 * MiB;
    private const int Nobody = 65534, Somebody = 65533;
    private const string Lazy = "lazy", Copied = "copy";
    private const long PR_SET_DUMPABLE = 4;

    private static readonly string[] s_container = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"];

    private static string[] As(int user, int group) => ["setpriv", $"--reuid={user}", $"--regid={group}", "--clear-groups"];

    private static string[] AsNobody => As(Nobody, Nobody);

    private static string[] AsNobodyWith(params string[] capabilities)
    {
        string added = string.Join(',', capabilities.Select(capability => $"+{capability}"));
        return [.. AsNobody, $"--inh-caps={added}", $"--ambient-caps={added}"];
    }

    // Its default set.
    private static string[] AsInDocker(string added)
    {
        const string left = "+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap";
        return ["setpriv", "--inh-caps=-all", $"--bounding-set=-all,{left}{(added.Length == 0 ? "" : $",+{added}")}"];
    }

    [Fact]
    public void Root_between_two_others() => Agree([], NewPuppet(), NewPuppet(), Lazy);

    [Fact]
    public void Within_one_other()
    {
        Puppet only = NewPuppet();
        Agree([], only, only, Lazy);
    }

    [Fact]
    public void Of_equal_uid_without_privileges_it_is_a_plain_copy_and_the_result_says_so()
    {
        RequireNoUnprivilegedUserfaultfd();
        Agree(AsNobody, NewPuppetOf(Nobody), NewPuppetOf(Nobody), Copied, "the caller lacks CAP_SYS_PTRACE");
    }

    [Fact]
    public void Root_between_processes_without_privileges() => Agree([], NewPuppetOf(Nobody), NewPuppetOf(Somebody), Lazy);

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Of_another_uid(bool source)
    {
        Puppet own = NewPuppetOf(Nobody), other = NewPuppetOf(Somebody);
        string ids = $"its user ids are {Somebody}, {Somebody}, {Somebody}";
        Agree(AsNobody, source ? other : own, source ? own : other, "EPERM", ids);
        Agree(AsNobody, source ? NewPuppet() : own, source ? own : NewPuppet(), "EPERM", "its user ids are 0, 0, 0");
    }

    [Fact]
    public void Of_equal_uid_and_another_gid() =>
        Agree(As(Nobody, Somebody), NewPuppetOf(Nobody), NewPuppetOf(Nobody), "EPERM", $"its group ids {Nobody}, {Nobody}, {Nobody}, the caller's are {Nobody} and {Somebody}");

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_process_that_is_not_dumpable(bool source)
    {
        Puppet hidden = NewPuppetOf(Nobody), open = NewPuppetOf(Nobody);
        hidden.Must(hidden.Syscall(Sys.prctl, PR_SET_DUMPABLE, 0), "prctl");
        Agree(AsNobody, source ? hidden : open, source ? open : hidden, "EPERM", "not dumpable");
        Agree([], source ? hidden : open, source ? open : hidden, Lazy);
    }

    [Fact]
    public void A_process_with_capabilities_that_the_caller_lacks()
    {
        Machine.RequireRoot();
        Agree(AsNobody, NewPuppet(AsNobodyWith("net_bind_service")), NewPuppetOf(Nobody), "EPERM", "it has capabilities that the caller lacks");
    }

    [Fact]
    public void CAP_SYS_PTRACE_alone_does_not_open_the_files_of_others()
    {
        RequireNoUnprivilegedUserfaultfd();
        Agree(AsNobodyWith("sys_ptrace"), NewPuppet(), NewPuppetOf(Somebody), "EPERM", "take CAP_DAC_READ_SEARCH besides CAP_SYS_PTRACE");
        Agree(AsNobodyWith("sys_ptrace"), NewPuppetOf(Nobody), NewPuppetOf(Nobody), Copied, "user-mode faults");
    }

    [Fact]
    public void With_two_capabilities_a_caller_reaches_everybody()
    {
        RequireNoUnprivilegedUserfaultfd();
        string[] caller = AsNobodyWith("sys_ptrace", "dac_read_search");
        Agree(caller, NewPuppetOf(Somebody), NewPuppet(), Lazy);
        Agree(caller, NewPuppet(), NewPuppetOf(Somebody), Copied, "user-mode faults");
        Agree(caller, NewPuppetOf(Somebody), NewPuppet(AsNobodyWith("sys_ptrace")), Lazy);
        Agree(caller, NewPuppetBehind(s_container), NewPuppet(), Lazy);
    }

    [Theory]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(true, true)]
    public void From_outside_into_containers(bool source, bool target) =>
        Agree([], source ? NewPuppetBehind(s_container) : NewPuppet(), target ? NewPuppetBehind(s_container) : NewPuppet(), Lazy);

    [Theory]
    [InlineData("", "", false, Copied, "the caller lacks CAP_SYS_PTRACE")]
    [InlineData("sys_ptrace", "", false, Copied, "user-mode faults")]
    [InlineData("sys_ptrace", "", true, Lazy, null)]
    [InlineData("sys_ptrace", "sys_ptrace", false, Lazy, null)]
    [InlineData("", "sys_ptrace", false, "EPERM", "it has capabilities that the caller lacks")]
    public void With_what_docker_run_leaves_to_root(string callerAdds, string targetAdds, bool device, string outlook, string? reason)
    {
        RequireNoUnprivilegedUserfaultfd();
        // cap-add, device /dev/userfaultfd, and no filter
        string[] hidden = device ? [] :
            ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9 && exec \"$@\"", "sh"];
        Agree([.. hidden, .. AsInDocker(callerAdds)], NewPuppet(AsInDocker("")), NewPuppet(AsInDocker(targetAdds)), outlook, reason);
    }

    [Fact]
    public void Into_a_container_of_ones_own_without_privileges()
    {
        RequireNoUnprivilegedUserfaultfd();
        // who made a user namespace has every capability in it
        Puppet inside = NewPuppet([.. AsNobody, "unshare", "--user", "--map-root-user"]);
        Agree(AsNobody, inside, NewPuppetOf(Nobody), Copied, "the caller lacks CAP_SYS_PTRACE");
        Agree(AsNobody, NewPuppetOf(Nobody), inside, Copied, "the caller lacks CAP_SYS_PTRACE");
        Agree(As(Somebody, Somebody), inside, NewPuppetOf(Somebody), "EPERM", "its user ids are");
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Out_of_a_container(bool source)
    {
        string[] container = ["unshare", "--user", "--map-root-user"];
        Puppet inside = NewPuppet(container), outside = NewPuppet();
        string[] caller = ["nsenter", $"--target={inside.Pid}", "--user"];
        Agree(caller, source ? outside : inside, source ? inside : outside, "EPERM", "the caller is in a user namespace of its own");
    }

    [Fact]
    public void Out_of_a_pid_namespace_nobody_is_there() =>
        Agree(s_container, NewPuppet(), NewPuppet(), "ESRCH", "no such process");

    [Theory]
    [InlineData("unshare --pid --fork", "ENOSYS: /proc shows another pid namespace than the caller's")]
    [InlineData("unshare --mount sh -c", "ENOSYS: /proc is not mounted; mount -t proc proc /proc")]
    public void With_no_proc_or_that_of_another_pid_namespace(string through, string expected)
    {
        Machine.RequireRoot();
        string[] words = through.Split(' ');
        string[] caller = words[^1] == "-c" ? [.. words, "umount -l /proc && exec \"$@\"", "sh"] : words;
        (ToolResult foreseen, ToolResult done) = Both(caller, 1, 1, 0x10000);
        Assert.Equal((1, 1), (foreseen.Code, done.Code));
        Assert.Contains(expected, foreseen.Errors, StringComparison.Ordinal);
        Assert.Contains(expected, done.Errors, StringComparison.Ordinal);
    }

    [Fact]
    public void All_three_in_one_container()
    {
        Puppet source = NewPuppetBehind(s_container);
        string[] enter = ["nsenter", $"--target={source.Pid}", "--user", "--pid", "--mount"];
        Puppet target = NewPuppetBehind(enter);
        Agree(enter, source, target, Copied, "the caller lacks CAP_SYS_PTRACE", (InnerPid(source), InnerPid(target)));
    }

    [Theory]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(true, true)]
    public void In_a_chroot(bool source, bool target)
    {
        Machine.RequireRoot();
        Puppet from = NewPuppet(), to = NewPuppet();
        string jail = Theatre.NewFolder("jail");
        foreach (Puppet puppet in (Puppet[])[.. source ? [from] : Array.Empty<Puppet>(), .. target ? [to] : Array.Empty<Puppet>()])
        {
            ulong path = puppet.Scratch;
            puppet.Write(path, [.. System.Text.Encoding.UTF8.GetBytes(jail), 0]);
            puppet.Must(puppet.Syscall(Sys.chroot, (long)path), "chroot");
        }
        JsonElement foreseen = Agree([], from, to, Lazy);
        Assert.Equal((source, target), (SaysOf(from), SaysOf(to)));

        bool SaysOf(Puppet puppet) => foreseen.GetProperty("checks").EnumerateArray().Any(check =>
            check.GetProperty("pid").GetInt32() == puppet.Pid && check.GetProperty("detail").GetString() == $"its root is {jail}");
    }

    [Fact]
    public void A_proc_that_hides_it()
    {
        Machine.RequireRoot();
        string[] hidden = ["unshare", "--mount", "sh", "-c", "mount -t proc -o hidepid=2 proc /proc && exec \"$@\"", "sh"];
        Agree([.. hidden, .. AsNobody], NewPuppet(), NewPuppetOf(Nobody), "EPERM", "/proc hides it");
        Agree(hidden, NewPuppetOf(Nobody), NewPuppet(), Lazy);
    }

    [Theory]
    [InlineData(true, Copied, "seccomp filter that the holder would inherit")]
    [InlineData(false, Lazy, null)]
    public void Under_a_filter(bool source, string outlook, string? reason)
    {
        Puppet filtered = NewPuppetOf(Nobody), free = NewPuppetOf(Nobody);
        Seccomp.Watch(filtered);
        (Puppet from, Puppet to) = source ? (filtered, free) : (free, filtered);
        Agree([], from, to, outlook, reason);
        Agree(AsNobody, from, to, "EPERM", "it is under seccomp, which only a caller may suspend");
    }

    [Theory]
    [InlineData(null, Lazy, null)]
    [InlineData(Sys.userfaultfd, Lazy, null)] // root opens the device
    [InlineData(Sys.pidfd_getfd, "EPERM", "a seccomp filter of the caller's forbids it")]
    [InlineData(Sys.ptrace, "EPERM", null)]
    [InlineData(Sys.process_vm_readv, "EPERM", "the caller cannot use process_vm_readv")]
    [InlineData(Sys.process_vm_writev, "EPERM", "the caller cannot use process_vm_readv")]
    [InlineData(Sys.pidfd_open, "EPERM", null)]
    public void A_caller_under_a_filter(long? forbidden, string outlook, string? reason)
    {
        string[] confine = [Theatre.Program("confine"), .. forbidden is { } number ? [$"{number}"] : Array.Empty<string>(), "--"];
        Agree(confine, NewPuppet(), NewPuppet(), outlook, reason);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_caller_under_a_filter_may_not_suspend_anothers(bool source)
    {
        Puppet filtered = NewPuppet(), free = NewPuppet();
        Seccomp.Watch(filtered);
        Agree([Theatre.Program("confine"), "--"], source ? filtered : free, source ? free : filtered, "EPERM", "it is under seccomp, which only a caller may suspend");
    }

    [Theory]
    [InlineData(true, false)]
    [InlineData(false, false)]
    [InlineData(true, true)]
    public void Traced_by_somebody_else(bool source, bool anotherThread)
    {
        Puppet traced = NewPuppet(), free = NewPuppet();
        int thread = traced.Pid;
        if (anotherThread)
        {
            traced.StartIdlers(1);
            thread = Directory.EnumerateDirectories($"/proc/{traced.Pid}/task").Select(path => int.Parse(Path.GetFileName(path), CultureInfo.InvariantCulture)).Max();
            Assert.NotEqual(traced.Pid, thread);
        }
        Actor tracer = NewTracer(thread);
        Agree([], source ? traced : free, source ? free : traced, "EBUSY", $"process {tracer.Pid} is tracing it");
    }

    [Fact]
    public void A_target_at_the_limit_of_its_mappings()
    {
        Puppet source = NewPuppet(), target = NewPuppet();
        target.Fragment(1 << 20);
        Agree([], source, target, "ENOMEM", "mappings");
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Without_room_in_the_address_space(bool source)
    {
        Puppet full = NewPuppet(), free = NewPuppet();
        ulong at = (source ? full : free).MapFilled(Length, 1);
        full.Limit(Rlimit.AddressSpace, Page);
        Agree([], source ? full : free, source ? free : full, "ENOMEM", "RLIMIT_AS", at: at);
    }

    [Fact]
    public void A_zombie()
    {
        Puppet parent = NewPuppet(), child = ForkOf(parent), other = NewPuppet();
        child.Kill();
        Assert.Equal('Z', ProcessStatus.State(child.Pid));
        (ToolResult foreseen, ToolResult done) = Both([], child.Pid, other.Pid, 0x10000);
        AssertAgree(foreseen, done, "ESRCH", "it is exiting");
        (foreseen, done) = Both([], other.Pid, child.Pid, other.MapFilled(Length, 1));
        AssertAgree(foreseen, done, "ESRCH", "it is exiting");
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_32_bit_program(bool source)
    {
        const int exit = 1, pause = 29;
        string waits = NarrowProgram("wait32", pause), ends = NarrowProgram("exit32", exit);
        Machine.RequireRunnable(ends, "32-bit programs");
        int narrow = NewProgram(waits);
        Eventually.Holds(() => ProcessStatus.Name(narrow) == "wait32" && ProcessStatus.State(narrow) == 'S', "the 32-bit program sleeps");
        Puppet wide = NewPuppet();
        ulong at = source ? Procfs.Maps.Read(narrow).Single(vma => vma.IsStack).Range.Start : wide.MapFilled(Length, 1);
        (ToolResult foreseen, ToolResult done) = Both([], source ? narrow : wide.Pid, source ? wide.Pid : narrow, at, Page);
        AssertAgree(foreseen, done, "ENOSYS", "it is a 32-bit program");
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void With_the_caller_itself_as_one_of_the_two(Way way)
    {
        (AddressSpace source, AddressSpace target) = Pair(way);
        ulong at = MapFilled(source, Length, 1);
        Prognosis prognosis = Prognosis.Of(source.Pid, target.Pid);
        Assert.True(prognosis.Outlook == Outlook.FilledLazily, prognosis.Reason);
        MmapResult result = Call(source, target, at, Length);
        Assert.Empty(result.Notes);
        target.AssertContent(result.Address, Length, 1);
    }

    [Fact]
    public void A_pid_that_is_left_out_is_the_tool()
    {
        Puppet puppet = NewPuppet();
        JsonElement pull = Tool.Json($"doctor --from {puppet.Pid} --json"), push = Tool.Json($"doctor --to {puppet.Pid} --json");
        Assert.Equal((puppet.Pid, puppet.Pid), (pull.GetProperty("source_pid").GetInt32(), push.GetProperty("target_pid").GetInt32()));
        Assert.NotEqual(puppet.Pid, pull.GetProperty("target_pid").GetInt32());
        Assert.Equal((Lazy, Lazy), (pull.GetProperty("outlook").GetString(), push.GetProperty("outlook").GetString()));
    }

    [Fact]
    public void For_people_it_is_a_line_for_each_check_and_one_for_the_whole()
    {
        Puppet source = NewPuppetOf(Nobody), target = NewPuppetOf(Nobody);
        Assert.EndsWith("\nworks: lazily filled\n", Tool.Run($"doctor --from {source.Pid} --to {target.Pid}").Output, StringComparison.Ordinal);
        RequireNoUnprivilegedUserfaultfd();
        FormattableString line = $"doctor --from {source.Pid} --to {target.Pid}";
        Assert.Contains("\nworks: plain copy, because the caller lacks CAP_SYS_PTRACE", Tool.Run(Theatre, AsNobody, line).Output, StringComparison.Ordinal);
        ToolResult refused = Tool.Run(Theatre, As(Somebody, Somebody), line);
        Assert.Equal(1, refused.Code);
        Assert.Contains("\ndoes not work: EPERM, because ", refused.Output, StringComparison.Ordinal);
        Assert.Contains("; cure: ", refused.Output.Split('\n')[^2], StringComparison.Ordinal);
        Assert.Contains($"NO    source {source.Pid}  ptrace", refused.Output, StringComparison.Ordinal);
    }

    /// <summary>Asks beforehand, copies, then moves, and compares: outlook or errno, and the reason.</summary>
    /// <param name="through">As whom, and where, doctor and call run.</param>
    /// <param name="source">The source; filled unless <paramref name="at"/> is given.</param>
    /// <param name="target">The target.</param>
    /// <param name="expected">lazy, copy or the errno.</param>
    /// <param name="reason">What both have to say.</param>
    /// <param name="pids">The numbers of the two where the caller is.</param>
    /// <param name="at">What to take.</param>
    /// <returns>What the doctor said.</returns>
    private JsonElement Agree(string[] through, Puppet source, Puppet target, string expected, string? reason = null, (int Source, int Target)? pids = null, ulong at = 0)
    {
        Machine.RequireRoot();
        if (at == 0) at = source.MapFilled(Length, 1);
        (int from, int to) = pids ?? (source.Pid, target.Pid);
        ToolResult foreseen = AskUntouched(through, from, to, source, target);
        JsonElement report = default;
        foreach (Mode mode in Modes.All)
        {
            ToolResult done = Call(through, from, to, at, Length, mode);
            report = AssertAgree(foreseen, done, expected, reason);
            bool works = expected is Lazy or Copied;
            if (works) target.AssertContent(Number(JsonElement.Parse(done.Output), "address"), Length, 1);
            if (works && mode == Mode.Move) source.AssertTaken(at, Length, 1);
            else source.AssertContent(at, Length, 1);
        }
        return report;
    }

    // Whoever was stopped, or ran something, has been off and on the processor: each time, while others wake it now and then.
    private ToolResult AskUntouched(string[] through, int from, int to, Puppet source, Puppet target)
    {
        ToolResult foreseen = null!;
        Assert.True(Enumerable.Range(0, 5).Any(_ =>
        {
            (ulong, ulong) before = (Switches(source), Switches(target));
            foreseen = Tool.Run(Theatre, through, $"doctor --from {from} --to {to} --json");
            return before == (Switches(source), Switches(target));
        }), "the doctor touches the source or the target");
        return foreseen;
    }

    private static JsonElement AssertAgree(ToolResult foreseen, ToolResult done, string expected, string? reason)
    {
        Assert.True(foreseen.Output.Length > 0, foreseen.Errors);
        JsonElement report = JsonElement.Parse(foreseen.Output);
        bool works = expected is Lazy or Copied;
        Assert.Equal((works, works ? 0 : 1), (report.GetProperty("works").GetBoolean(), foreseen.Code));
        Assert.True((works ? 0 : 1) == done.Code, $"{done.Errors}; foreseen: {foreseen.Output}");
        Assert.Equal(expected, report.GetProperty(works ? "outlook" : "errno").GetString());
        if (reason is not null) Assert.Contains(reason, report.GetProperty("reason").GetString(), StringComparison.Ordinal);
        if (!works)
        {
            Assert.Contains($": {expected}", done.Errors, StringComparison.Ordinal);
            // of a limit each says its own: the doctor how much is left, the call that it was not enough
            if (reason is not null && expected != "ENOMEM") Assert.Contains(reason, done.Errors, StringComparison.Ordinal);
            return report;
        }
        string[] notes = [.. JsonElement.Parse(done.Output).GetProperty("notes").EnumerateArray().Select(note => note.GetString()!)];
        if (expected == Lazy) Assert.Empty(notes);
        else Assert.Equal(report.GetProperty("reason").GetString(), Assert.Single(notes));
        return report;
    }

    private (ToolResult Foreseen, ToolResult Done) Both(string[] through, int from, int to, ulong at, ulong length = Length) =>
        (Tool.Run(Theatre, through, $"doctor --from {from} --to {to} --json"), Call(through, from, to, at, length));

    private ToolResult Call(string[] through, int from, int to, ulong at, ulong length, Mode mode = Mode.Copy) =>
        Tool.Run(Theatre, through, $"{(mode == Mode.Move ? "move" : "copy")} --from {from} --to {to} --range 0x{at:x}+{length} --json");

    private static void RequireNoUnprivilegedUserfaultfd()
    {
        Machine.RequireRoot();
        Machine.Require(File.ReadAllText("/proc/sys/vm/unprivileged_userfaultfd").Trim() == "0", "needs vm.unprivileged_userfaultfd=0");
    }

    private string NarrowProgram(string name, int systemCall)
    {
        string program = Theatre.Program(name), code = $"{program}.c";
        File.WriteAllText(code, $"void _start(void) {{ for (;;) __asm__ volatile(\"int $0x80\" :: \"a\"({systemCall}), \"b\"(0)); }}");
        (int failed, string output) = Theatre.Run("gcc", "-m32", "-nostdlib", "-static", "-o", program, code);
        Machine.Require(failed == 0, $"needs a gcc that makes 32-bit programs: {output}");
        return program;
    }

    private static ulong Switches(Puppet puppet)
    {
        _ = ProcessStatus.BlockedAt(puppet.Pid, puppet.Pid);
        return ProcessStatus.Figure(puppet.Pid, "voluntary_ctxt_switches") + ProcessStatus.Figure(puppet.Pid, "nonvoluntary_ctxt_switches");
    }

    private static int InnerPid(Puppet puppet) => Procfs.ProcessStatus.Read(puppet.Pid).NSpid[^1];

    private static ulong Number(JsonElement row, string name) =>
        ulong.Parse(row.GetProperty(name).GetString().AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);

    private Actor NewTracer(int thread)
    {
        int started = Theatre.Start(Theatre.Program("tracer"), Theatre.Door, thread.ToString(CultureInfo.InvariantCulture));
        Actor tracer = Cast(new Actor(Theatre, started, fromNursery: true));
        tracer.Answer();
        return tracer;
    }
}
