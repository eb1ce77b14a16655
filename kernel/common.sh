# Sourced by the commands in this folder: where things are, which packages they need, and which image belongs to these sources.
# shellcheck shell=bash

. "$(dirname "${BASH_SOURCE[0]}")/../scripts/setup.sh"
kernel=$root/kernel
cache=${PVMMAP_KERNEL_CACHE:-$HOME/.cache/pvmmap-kernel}
source_package=linux-source-6.12

need_qemu() {
    need_packages qemu-system-x86=qemu-system-x86_64 busybox-static=/bin/busybox cpio=cpio gzip=gzip util-linux=flock
}

# linux-source-6.12 comes with Debian 12's security updates and with Debian 13.
need_kernel_tools() {
    need_packages $source_package=/usr/src/$source_package.tar.xz gcc=gcc binutils=objcopy libc6-dev=/usr/include/stdio.h make=make flex=flex \
        bison=bison bc=bc libelf-dev=/usr/include/libelf.h xz-utils=xz
}

# The fragments of a kernel, in the order in which they are merged.
fragments() {
    printf '%s\n' "$kernel/config/standard.config"
    case $1 in
        standard) ;;
        debug | kasan) printf '%s\n' "$kernel/config/$1.config" ;;
        *) die "no such kernel: $1 (standard, debug or kasan)" ;;
    esac
}

source_version() { dpkg-query -W -f '${Version}' $source_package; }

# image_key KERNEL [MUTANT]: a hash of everything that goes into the image.
image_key() {
    local files
    mapfile -t files < <(fragments "$1")
    {
        source_version
        gcc --version | head -n 1
        ld --version | head -n 1
        cat "$kernel/process_vm_mmap.c" "$kernel/hook" "$kernel/build" "${files[@]}"
        [ -z "${2-}" ] || cat "$kernel/mutants/$2.sed"
    } | sha256sum | cut -c 1-24
}
