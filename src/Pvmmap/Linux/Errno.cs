namespace Pvmmap;

/// <summary>Linux error numbers (asm-generic/errno-base.h, errno.h) that the call or the system calls under it return.</summary>
public enum Errno
{
#pragma warning disable CS1591 // The names are the kernel's own; their meaning stands in errno(3) and in process_vm_mmap(2).
    None = 0,
    EPERM = 1,
    ENOENT = 2,
    ESRCH = 3,
    EINTR = 4,
    EIO = 5,
    ENXIO = 6,
    E2BIG = 7,
    EBADF = 9,
    ECHILD = 10,
    EAGAIN = 11,
    ENOMEM = 12,
    EACCES = 13,
    EFAULT = 14,
    EBUSY = 16,
    EEXIST = 17,
    ENODEV = 19,
    ENOTDIR = 20,
    EISDIR = 21,
    EINVAL = 22,
    ENFILE = 23,
    EMFILE = 24,
    ENOTTY = 25,
    EFBIG = 27,
    ENOSPC = 28,
    EROFS = 30,
    EPIPE = 32,
    ENAMETOOLONG = 36,
    ENOSYS = 38,
    ELOOP = 40,
    EOPNOTSUPP = 95,
    ETIMEDOUT = 110,
    EDQUOT = 122,
#pragma warning restore CS1591
}
