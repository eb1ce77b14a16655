STRUCT("Futex.TimeSpec", struct timespec)
FIELD("Futex.TimeSpec.Seconds", struct timespec, tv_sec)
FIELD("Futex.TimeSpec.Nanoseconds", struct timespec, tv_nsec)

STRUCT("Memory.IoVector", struct iovec)
FIELD("Memory.IoVector.Base", struct iovec, iov_base)
FIELD("Memory.IoVector.Length", struct iovec, iov_len)

STRUCT("Poll.PollFd", struct pollfd)
FIELD("Poll.PollFd.Fd", struct pollfd, fd)
FIELD("Poll.PollFd.Events", struct pollfd, events)
FIELD("Poll.PollFd.Revents", struct pollfd, revents)

STRUCT("UnixSocket.MessageHeader", struct msghdr)
FIELD("UnixSocket.MessageHeader.Name", struct msghdr, msg_name)
FIELD("UnixSocket.MessageHeader.NameLength", struct msghdr, msg_namelen)
FIELD("UnixSocket.MessageHeader.Vector", struct msghdr, msg_iov)
FIELD("UnixSocket.MessageHeader.VectorCount", struct msghdr, msg_iovlen)
FIELD("UnixSocket.MessageHeader.Control", struct msghdr, msg_control)
FIELD("UnixSocket.MessageHeader.ControlLength", struct msghdr, msg_controllen)
FIELD("UnixSocket.MessageHeader.Flags", struct msghdr, msg_flags)

STRUCT("Userfaultfd.Api", struct uffdio_api)
FIELD("Userfaultfd.Api.Version", struct uffdio_api, api)
FIELD("Userfaultfd.Api.Features", struct uffdio_api, features)
FIELD("Userfaultfd.Api.Ioctls", struct uffdio_api, ioctls)

STRUCT("Userfaultfd.Range", struct uffdio_range)
FIELD("Userfaultfd.Range.Start", struct uffdio_range, start)
FIELD("Userfaultfd.Range.Length", struct uffdio_range, len)

STRUCT("Userfaultfd.Register", struct uffdio_register)
FIELD("Userfaultfd.Register.Range", struct uffdio_register, range)
FIELD("Userfaultfd.Register.Mode", struct uffdio_register, mode)
FIELD("Userfaultfd.Register.Ioctls", struct uffdio_register, ioctls)

STRUCT("Ptrace.Registers", struct user_regs_struct)
FIELD("Ptrace.Registers.R15", struct user_regs_struct, r15)
FIELD("Ptrace.Registers.R14", struct user_regs_struct, r14)
FIELD("Ptrace.Registers.R13", struct user_regs_struct, r13)
FIELD("Ptrace.Registers.R12", struct user_regs_struct, r12)
FIELD("Ptrace.Registers.Rbp", struct user_regs_struct, rbp)
FIELD("Ptrace.Registers.Rbx", struct user_regs_struct, rbx)
FIELD("Ptrace.Registers.R11", struct user_regs_struct, r11)
FIELD("Ptrace.Registers.R10", struct user_regs_struct, r10)
FIELD("Ptrace.Registers.R9", struct user_regs_struct, r9)
FIELD("Ptrace.Registers.R8", struct user_regs_struct, r8)
FIELD("Ptrace.Registers.Rax", struct user_regs_struct, rax)
FIELD("Ptrace.Registers.Rcx", struct user_regs_struct, rcx)
FIELD("Ptrace.Registers.Rdx", struct user_regs_struct, rdx)
FIELD("Ptrace.Registers.Rsi", struct user_regs_struct, rsi)
FIELD("Ptrace.Registers.Rdi", struct user_regs_struct, rdi)
FIELD("Ptrace.Registers.OrigRax", struct user_regs_struct, orig_rax)
FIELD("Ptrace.Registers.Rip", struct user_regs_struct, rip)
FIELD("Ptrace.Registers.Cs", struct user_regs_struct, cs)
FIELD("Ptrace.Registers.Eflags", struct user_regs_struct, eflags)
FIELD("Ptrace.Registers.Rsp", struct user_regs_struct, rsp)
FIELD("Ptrace.Registers.Ss", struct user_regs_struct, ss)
FIELD("Ptrace.Registers.FsBase", struct user_regs_struct, fs_base)
FIELD("Ptrace.Registers.GsBase", struct user_regs_struct, gs_base)
FIELD("Ptrace.Registers.Ds", struct user_regs_struct, ds)
FIELD("Ptrace.Registers.Es", struct user_regs_struct, es)
FIELD("Ptrace.Registers.Fs", struct user_regs_struct, fs)
FIELD("Ptrace.Registers.Gs", struct user_regs_struct, gs)

/* struct cmsghdr with the data behind it: CMSG_DATA begins where the header ends. */
PREFIX("UnixSocket.ControlMessage", struct cmsghdr)
FIELD("UnixSocket.ControlMessage.Length", struct cmsghdr, cmsg_len)
FIELD("UnixSocket.ControlMessage.Level", struct cmsghdr, cmsg_level)
FIELD("UnixSocket.ControlMessage.Type", struct cmsghdr, cmsg_type)
printf("offsetof UnixSocket.ControlMessage.Descriptors=%zu\n", CMSG_LEN(0));

STRUCT("PagemapScan.Argument", struct pm_scan_arg)
FIELD("PagemapScan.Argument.Size", struct pm_scan_arg, size)
FIELD("PagemapScan.Argument.Flags", struct pm_scan_arg, flags)
FIELD("PagemapScan.Argument.Start", struct pm_scan_arg, start)
FIELD("PagemapScan.Argument.End", struct pm_scan_arg, end)
FIELD("PagemapScan.Argument.WalkEnd", struct pm_scan_arg, walk_end)
FIELD("PagemapScan.Argument.Vector", struct pm_scan_arg, vec)
FIELD("PagemapScan.Argument.VectorLength", struct pm_scan_arg, vec_len)
FIELD("PagemapScan.Argument.MaxPages", struct pm_scan_arg, max_pages)
FIELD("PagemapScan.Argument.CategoryInverted", struct pm_scan_arg, category_inverted)
FIELD("PagemapScan.Argument.CategoryMask", struct pm_scan_arg, category_mask)
FIELD("PagemapScan.Argument.CategoryAnyofMask", struct pm_scan_arg, category_anyof_mask)
FIELD("PagemapScan.Argument.ReturnMask", struct pm_scan_arg, return_mask)

STRUCT("PagemapScan.Region", struct page_region)
FIELD("PagemapScan.Region.Start", struct page_region, start)
FIELD("PagemapScan.Region.End", struct page_region, end)
FIELD("PagemapScan.Region.Categories", struct page_region, categories)

/* The holder's. */

STRUCT("TimeSpecification", struct timespec)
FIELD("TimeSpecification.Seconds", struct timespec, tv_sec)
FIELD("TimeSpecification.Nanoseconds", struct timespec, tv_nsec)

STRUCT("PollDescriptor", struct pollfd)
FIELD("PollDescriptor.File", struct pollfd, fd)
FIELD("PollDescriptor.Events", struct pollfd, events)
FIELD("PollDescriptor.Returned", struct pollfd, revents)

STRUCT("Boot.Vector", struct iovec)
FIELD("Boot.Vector.Base", struct iovec, iov_base)
FIELD("Boot.Vector.Length", struct iovec, iov_len)

STRUCT("Boot.MessageHeader", struct msghdr)
FIELD("Boot.MessageHeader.Name", struct msghdr, msg_name)
/* Two fields of eight bytes for an int and its padding: the kernel reads and writes the lower half. */
OFFSET("Boot.MessageHeader.NameLength", struct msghdr, msg_namelen)
FIELD("Boot.MessageHeader.Vectors", struct msghdr, msg_iov)
FIELD("Boot.MessageHeader.VectorCount", struct msghdr, msg_iovlen)
FIELD("Boot.MessageHeader.Control", struct msghdr, msg_control)
FIELD("Boot.MessageHeader.ControlLength", struct msghdr, msg_controllen)
OFFSET("Boot.MessageHeader.Flags", struct msghdr, msg_flags)

PREFIX("Boot.ControlMessage", struct cmsghdr)
FIELD("Boot.ControlMessage.Length", struct cmsghdr, cmsg_len)
FIELD("Boot.ControlMessage.Level", struct cmsghdr, cmsg_level)
FIELD("Boot.ControlMessage.Type", struct cmsghdr, cmsg_type)
printf("offsetof Boot.ControlMessage.FirstDescriptor=%zu\n", CMSG_LEN(0));
printf("offsetof Boot.ControlMessage.SecondDescriptor=%zu\n", CMSG_LEN(sizeof(int)));
printf("offsetof Boot.ControlMessage.Rest=%zu\n", CMSG_LEN(2 * sizeof(int)));

STRUCT("Userfaultfd.CopyArgument", struct uffdio_copy)
FIELD("Userfaultfd.CopyArgument.Destination", struct uffdio_copy, dst)
FIELD("Userfaultfd.CopyArgument.Source", struct uffdio_copy, src)
FIELD("Userfaultfd.CopyArgument.Length", struct uffdio_copy, len)
FIELD("Userfaultfd.CopyArgument.Mode", struct uffdio_copy, mode)
FIELD("Userfaultfd.CopyArgument.Copied", struct uffdio_copy, copy)

STRUCT("Userfaultfd.FillArgument", struct uffdio_zeropage)
FIELD("Userfaultfd.FillArgument.Start", struct uffdio_zeropage, range.start)
FIELD("Userfaultfd.FillArgument.Length", struct uffdio_zeropage, range.len)
FIELD("Userfaultfd.FillArgument.Mode", struct uffdio_zeropage, mode)
FIELD("Userfaultfd.FillArgument.Filled", struct uffdio_zeropage, zeropage)
_Static_assert(sizeof(struct uffdio_poison) == sizeof(struct uffdio_zeropage), "one C# structure for both");
_Static_assert(offsetof(struct uffdio_poison, mode) == offsetof(struct uffdio_zeropage, mode), "one C# structure for both");
_Static_assert(offsetof(struct uffdio_poison, updated) == offsetof(struct uffdio_zeropage, zeropage), "one C# structure for both");

STRUCT("UserfaultMessage", struct uffd_msg)
FIELD("UserfaultMessage.Event", struct uffd_msg, event)
FIELD("UserfaultMessage.Descriptor", struct uffd_msg, arg.fork.ufd)
FIELD("UserfaultMessage.From", struct uffd_msg, arg.remap.from)
FIELD("UserfaultMessage.To", struct uffd_msg, arg.remap.to)
FIELD("UserfaultMessage.Length", struct uffd_msg, arg.remap.len)
_Static_assert(offsetof(struct uffd_msg, arg.remove.start) == offsetof(struct uffd_msg, arg.remap.from), "From");
_Static_assert(offsetof(struct uffd_msg, arg.remove.end) == offsetof(struct uffd_msg, arg.remap.to), "To");
_Static_assert(offsetof(struct uffd_msg, arg.pagefault.address) == offsetof(struct uffd_msg, arg.remap.to), "To");

STRUCT("Pagemap.Region", struct page_region)
FIELD("Pagemap.Region.Start", struct page_region, start)
FIELD("Pagemap.Region.End", struct page_region, end)
FIELD("Pagemap.Region.Categories", struct page_region, categories)

STRUCT("Pagemap.ScanArgument", struct pm_scan_arg)
FIELD("Pagemap.ScanArgument.Size", struct pm_scan_arg, size)
FIELD("Pagemap.ScanArgument.Flags", struct pm_scan_arg, flags)
FIELD("Pagemap.ScanArgument.Start", struct pm_scan_arg, start)
FIELD("Pagemap.ScanArgument.End", struct pm_scan_arg, end)
FIELD("Pagemap.ScanArgument.WalkEnd", struct pm_scan_arg, walk_end)
FIELD("Pagemap.ScanArgument.Vector", struct pm_scan_arg, vec)
FIELD("Pagemap.ScanArgument.VectorLength", struct pm_scan_arg, vec_len)
FIELD("Pagemap.ScanArgument.MaximumPages", struct pm_scan_arg, max_pages)
FIELD("Pagemap.ScanArgument.CategoryInverted", struct pm_scan_arg, category_inverted)
FIELD("Pagemap.ScanArgument.CategoryMask", struct pm_scan_arg, category_mask)
FIELD("Pagemap.ScanArgument.CategoryAnyOfMask", struct pm_scan_arg, category_anyof_mask)
FIELD("Pagemap.ScanArgument.ReturnMask", struct pm_scan_arg, return_mask)
