using System.IO.MemoryMappedFiles;
using System.Text;
using CsCheck;
using Pvmmap.Procfs;
using Xunit;

namespace Pvmmap.Tests.Procfs;

public class MapsTests
{
    private static Vma Line(string line) => Assert.Single(Maps.Parse(Encoding.UTF8.GetBytes(line + "\n")));

    [Fact]
    public void Every_field_of_a_line_is_read()
    {
        Vma vma = Line("7f1c2a000000-7f1c2a021000 r-xs 0001e000 fd:1a 8675309                    /usr/lib/libc.so.6");
        Assert.Equal(new PageRange(0x7f1c2a000000, 0x7f1c2a021000), vma.Range);
        Assert.Equal(Protection.Read | Protection.Execute, vma.Protection);
        Assert.True(vma.Shared);
        Assert.Equal(0x1e000ul, vma.Offset);
        Assert.Equal((0xfdu, 0x1au), (vma.DeviceMajor, vma.DeviceMinor));
        Assert.Equal(8675309ul, vma.Inode);
        Assert.Equal("/usr/lib/libc.so.6", vma.Name);
        Assert.True(vma.IsFileBacked);
        Assert.False(vma.IsDeleted);
        Assert.Equal("7f1c2a000000-7f1c2a021000 r-xs /usr/lib/libc.so.6", vma.ToString());
    }

    [Fact]
    public void A_private_anonymous_line_has_no_name()
    {
        // The kernel leaves one blank after the inode.
        Vma vma = Line("7ffff7d8b000-7ffff7d8e000 rw-p 00000000 00:00 0 ");
        Assert.Equal("", vma.Name);
        Assert.False(vma.IsFileBacked || vma.IsSpecial || vma.IsStack || vma.Shared);
        Assert.Null(vma.AnonymousName);
        Assert.Equal("7ffff7d8b000-7ffff7d8e000 rw-p", vma.ToString());
    }

    [Theory]
    [InlineData("[vdso]", true)]
    [InlineData("[vvar]", true)]
    [InlineData("[vvar_vclock]", true)]
    [InlineData("[vsyscall]", true)]
    [InlineData("[heap]", false)]
    [InlineData("[stack]", false)]
    [InlineData("[anon:vdso]", false)]
    [InlineData("/tmp/[vdso]", false)]
    public void Special_mappings_are_known_by_name(string name, bool special) =>
        Assert.Equal(special, Line($"7ffff7fc9000-7ffff7fcb000 r-xp 00000000 00:00 0          {name}").IsSpecial);

    [Fact]
    public void A_mapping_at_the_very_end_of_the_address_space_is_read()
    {
        Vma vma = Line("ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]");
        Assert.Equal(0xffffffffff601000ul, vma.Range.End);
        Assert.Equal(Protection.Execute, vma.Protection);
    }

    [Fact]
    public void Stacks_are_known_by_name()
    {
        Assert.True(Line("7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0                          [stack]").IsStack);
        Assert.True(Line("7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0                          [stack:1234]").IsStack);
        Assert.False(Line("7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0                         [anon:stack]").IsStack);
    }

    [Theory]
    [InlineData("[anon:GC heap]", 0, "GC heap")]
    [InlineData("[anon:]", 0, "")]
    [InlineData("[anon_shmem:ring (v2)]", 1024, "ring (v2)")]
    [InlineData("[heap]", 0, null)]
    [InlineData("[anon", 0, null)]
    [InlineData("/tmp/[anon:x]", 7, null)]
    public void The_name_given_by_prctl_is_taken_out_of_its_brackets(string name, int inode, string? expected) =>
        Assert.Equal(expected, Line($"7ffff7fc9000-7ffff7fcb000 rw-p 00000000 00:01 {inode}          {name}").AnonymousName);

    [Theory]
    [InlineData("/tmp/with two  blanks ", "/tmp/with two  blanks ", "/tmp/with two  blanks ", false)]
    [InlineData("/tmp/a\\012b", "/tmp/a\nb", "/tmp/a\nb", false)]
    [InlineData("/tmp/a\\040b\\134", "/tmp/a\\040b\\134", "/tmp/a\\040b\\134", false)]
    [InlineData("/tmp/gone (deleted)", "/tmp/gone (deleted)", "/tmp/gone", true)]
    [InlineData("/memfd:doublemapper (deleted)", "/memfd:doublemapper (deleted)", "/memfd:doublemapper", true)]
    [InlineData("/tmp/ünï", "/tmp/ünï", "/tmp/ünï", false)]
    [InlineData("anon_inode:[perf_event]", "anon_inode:[perf_event]", "anon_inode:[perf_event]", false)]
    public void Names_of_files_are_read(string shown, string name, string path, bool deleted)
    {
        Vma vma = Line($"7ffff7fc9000-7ffff7fcb000 rw-p 00000000 08:01 42                         {shown}");
        Assert.Equal(name, vma.Name);
        Assert.Equal(path, vma.Path);
        Assert.Equal(deleted, vma.IsDeleted);
        Assert.EndsWith(shown, vma.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void Bytes_that_are_not_UTF8_do_not_stop_the_parse()
    {
        byte[] line = [.. "7ffff7fc9000-7ffff7fcb000 rw-p 00000000 08:01 42   /tmp/"u8, 0xff, 0xfe, (byte)'\n'];
        Assert.StartsWith("/tmp/", Assert.Single(Maps.Parse(line)).Name, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("")]
    [InlineData("7ffff7fc9000")]
    [InlineData("7ffff7fc9000-7ffff7fcb000")]
    [InlineData("7ffff7fcb000-7ffff7fc9000 rw-p 00000000 00:00 0")]
    [InlineData("7ffff7fc9000-7ffff7fc9000 rw-p 00000000 00:00 0")]
    [InlineData("7ffff7fc9001-7ffff7fcb000 rw-p 00000000 00:00 0")]
    [InlineData("7ffff7fc9000-7ffff7fcb000 rw- 00000000 00:00 0")]
    [InlineData("7ffff7fc9000-7ffff7fcb000 wr-p 00000000 00:00 0")]
    [InlineData("7ffff7fc9000-7ffff7fcb000 rw-x 00000000 00:00 0")]
    [InlineData("7ffff7fc9000-7ffff7fcb000 rw-p 00000000 0000 0")]
    [InlineData("7ffff7fc9000-7ffff7fcb000 rw-p 00000000 100000000:00 0")]
    [InlineData("7ffff7fc9000-7ffff7fcb000 rw-p 00000000 00:00 x")]
    [InlineData("7ffff7fc9000-7ffff7fcb000 rw-p 00000000 00:00 -1")]
    [InlineData("7ffff7fc9000-7ffff7fcb000 rw-p 00000000 00:00 99999999999999999999")]
    [InlineData("7ffff7fc9000-7ffff7fcb000 rw-p 00000000 00:00 0x")]
    [InlineData("17ffff7fc9000000-17ffff7fcb0000000 rw-p 00000000 00:00 0")]
    [InlineData("g000-h000 rw-p 00000000 00:00 0")]
    public void A_line_the_kernel_does_not_write_is_a_FormatException(string line) =>
        Assert.Throws<FormatException>(() => Maps.Parse(Encoding.UTF8.GetBytes(line + "\n")));

    [Fact]
    public void No_text_is_no_VMA() => Assert.Empty(Maps.Parse([]));

    [Fact]
    public void The_last_line_may_lack_its_newline() =>
        Assert.Equal(2, Maps.Parse("1000-2000 r--p 00000000 00:00 0 \n2000-3000 r--p 00000000 00:00 0 "u8).Count);

    [Fact]
    public void What_the_kernel_would_write_is_read_back() =>
        Gens.Vma.List[0, 20].Sample(vmas => Assert.Equal(vmas, Maps.Parse(Encoding.UTF8.GetBytes(string.Concat(vmas.Select(Gens.MapsLine))))));

    [Fact]
    public void Damaged_text_is_a_FormatException_or_a_list() =>
        Gens.Damaged(Gens.Vma.Select(Gens.MapsLine)).Sample(text => Gens.ParsesOrSaysMalformed(text, t => Maps.Parse(t)), iter: 2000);

    [Fact]
    public void The_callers_own_mappings_are_sorted_and_hold_its_own_code()
    {
        List<Vma> vmas = Maps.Read(Environment.ProcessId);
        // Other threads map and unmap meanwhile: the kernel goes on behind the address where it was, and may show a mapping that has grown or merged since.
        Assert.All(vmas.Zip(vmas.Skip(1)), pair => Assert.True(pair.First.Range.Start < pair.Second.Range.End, $"{pair.First.Range} before {pair.Second.Range}"));
        Assert.Contains(vmas, vma => vma.IsStack);
        Assert.Contains(vmas, vma => vma.Name == "[vdso]" && vma.IsSpecial);
        Assert.Contains(vmas, vma => vma.Path.EndsWith("libcoreclr.so", StringComparison.Ordinal) && vma.Protection.HasFlag(Protection.Execute));
    }

    [Fact]
    public void A_process_that_does_not_exist_is_ESRCH()
    {
        // One above the highest pid that the kernel ever gives (PID_MAX_LIMIT is 4 Mi).
        var e = Assert.Throws<PvmmapException>(() => Maps.Read((4 << 20) + 1));
        Assert.Equal(Errno.ESRCH, e.Errno);
        Assert.Equal((4 << 20) + 1, e.Pid);
    }

    [Fact]
    public void A_process_of_another_user_is_EPERM()
    {
        if (!Environment.IsPrivilegedProcess) Assert.Skip("needs root, to become somebody else");
        if (ProcessStatus.Read(1).EffectiveUid != 0) Assert.Skip("process 1 is not root's");
        Errno errno = OtherUser.Run(() => Assert.Throws<PvmmapException>(() => Maps.Read(1)).Errno);
        Assert.Equal(Errno.EPERM, errno);
        Assert.Equal(1, OtherUser.Run(() => ProcessStatus.Read(1)).Pid);
    }

    [Fact]
    public void A_zombie_has_no_mappings()
    {
        using Zombie zombie = Zombie.Make();
        Assert.Empty(Maps.Read(zombie.Pid));
        Assert.Empty(Smaps.Read(zombie.Pid));
        Assert.Equal('Z', ProcessStatus.Read(zombie.Pid).State);
    }

    [Fact]
    public void A_line_longer_than_a_page_is_read_whole()
    {
        // Each newline of a path takes four characters in maps, so a path of legal length makes lines of many pages.
        string root = Directory.CreateTempSubdirectory("pvmmap-maps-").FullName;
        try
        {
            string directory = root;
            while (directory.Length < 3500) directory = Path.Combine(directory, new string('\n', 200));
            Directory.CreateDirectory(directory);
            string path = Path.Combine(directory, "file");
            File.WriteAllBytes(path, new byte[4096]);
            using var file = MemoryMappedFile.CreateFromFile(path, FileMode.Open, null, 0, MemoryMappedFileAccess.Read);
            using MemoryMappedViewAccessor view = file.CreateViewAccessor(0, 0, MemoryMappedFileAccess.Read);
            Vma vma = Assert.Single(Maps.Read(Environment.ProcessId), vma => vma.Path == path);
            SmapsEntry entry = Assert.Single(Smaps.Read(Environment.ProcessId, vma.Range));
            Assert.Equal(vma, entry.Vma);
            // A shared mapping of a file opened for reading only: the kernel takes VM_SHARED away and leaves VM_MAYSHARE.
            Assert.Equal(VmFlags.MayRead | VmFlags.MayShare, entry.Flags & (VmFlags.MayRead | VmFlags.MayShare | VmFlags.Shared));
        }
        finally
        {
            Directory.Delete(root, recursive: true);
        }
    }
}
