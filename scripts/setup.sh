# Sourced by ./build, ./test, ./demo and ./bench: finds the repository, checks the tools that the caller names and installs what is lacking.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf 'pvmmap: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

# quietly WHAT COMMAND ...: its output is shown only if it fails, and then this is the end.
quietly() {
    local what=$1 log
    shift
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        rm -f "$log"
        die "$what could not be built"
    fi
    rm -f "$log"
}

# The packages among the arguments ("package=proof", where the proof is a command on PATH or a file) whose proof is missing.
missing_packages() {
    local pair proof
    for pair in "$@"; do
        proof=${pair#*=}
        case $proof in
            /*) [ -e "$proof" ] || printf '%s ' "${pair%%=*}" ;;
            *) command -v "$proof" >/dev/null 2>&1 || printf '%s ' "${pair%%=*}" ;;
        esac
    done
}

# Installs what is missing of "package=proof ..." with apt-get when root or when sudo asks no password; otherwise one line and exit 1.
need_packages() {
    local missing sudo=()
    missing=$(missing_packages "$@")
    missing=${missing% }
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then sudo=(sudo -n); else
            die "missing: $missing; run: sudo apt-get update && sudo apt-get install -y $missing"
        fi
    fi
    command -v apt-get >/dev/null 2>&1 || die "missing: $missing (names as in Debian); install them with this system's package manager"
    say "installing $missing"
    local log
    log=$(mktemp)
    # shellcheck disable=SC2086 # a list of package names
    if ! { "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update \
        && "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } </dev/null >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        die "apt-get could not install $missing; install them by hand and run this again"
    fi
    rm -f "$log"
}

need_dotnet() {
    [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || die "this is $(uname -s) on $(uname -m); only Linux on x86-64 is supported so far"
    command -v dotnet >/dev/null 2>&1 || die "missing: the .NET SDK 10; install it (https://dotnet.microsoft.com/download/dotnet/10.0) and put 'dotnet' on PATH"
    (cd "$root" && dotnet --version >/dev/null 2>&1) || die "the .NET SDK here is not 10.0; install it (https://dotnet.microsoft.com/download/dotnet/10.0)"
    export DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1
}

# NativeAOT links with gcc and strips with objcopy; crt1.o comes with libc6-dev.
need_build_tools() {
    need_dotnet
    need_packages gcc=gcc binutils=objcopy libc6-dev=/usr/include/stdio.h
}

# The conformance tests use programs that nobody here wrote as source and target.
need_test_tools() {
    need_packages redis-server=redis-server python3=python3 gdb=gdb lldb=lldb elfutils=eu-readelf zstd=zstd \
        binutils-aarch64-linux-gnu=aarch64-linux-gnu-objcopy linux-libc-dev-arm64-cross=/usr/aarch64-linux-gnu/include/asm/unistd.h qemu-user=qemu-aarch64
}

# linux-x64, or linux-arm64: what is built is for that machine.
runtime=linux-x64

# For arm64: gcc, binutils and the C library's headers of that machine.
need_cross_tools() {
    [ "$runtime" = linux-arm64 ] || return 0
    need_packages gcc-aarch64-linux-gnu=aarch64-linux-gnu-gcc binutils-aarch64-linux-gnu=aarch64-linux-gnu-objcopy \
        libc6-dev-arm64-cross=/usr/aarch64-linux-gnu/include/stdio.h
}

# publish PROJECT WHAT [CONFIGURATION]: compiles a program or library with NativeAOT. What it makes is under artifacts/build/publish.
publish() {
    local cross=()
    [ "$runtime" = linux-x64 ] || cross=(-p:HolderArchitecture="${runtime#linux-}" -p:ArtifactsPath="$root/artifacts/build-$runtime"
        -p:CppCompilerAndLinker=aarch64-linux-gnu-gcc -p:ObjCopyName=aarch64-linux-gnu-objcopy)
    # global.json, which names the SDK, is looked for from the current folder up.
    (cd "$root" && quietly "$2" dotnet publish "$root/$1/${1##*/}.csproj" --configuration "${3-Release}" --runtime "$runtime" "${cross[@]}" \
        --nologo --verbosity quiet)
}
