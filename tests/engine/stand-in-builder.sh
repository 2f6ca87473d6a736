#!/bin/bash
# Makes a builder image for the Dockerfile out of this machine's own Rust
# toolchain, C linker and crates: what `rust:1-bookworm` would be, where no
# image can be pulled. It is offline and holds no more than a build needs.
#
#   stand-in-builder.sh CARGO_LOCK    prints the image's name
#
# An image that has been made of the same toolchain and crates before is used
# again; a new one takes the place of all others. Debian's layout is assumed.
set -euo pipefail

: "${DOCKER_HOST:?must name an engine of the tests own: its images are removed}"

lock=$1
repository=clinit-stand-in-builder
sysroot=$(rustc --print sysroot)
host=$(rustc --print host-tuple)
cargo_home=${CARGO_HOME:-$HOME/.cargo}

tag=$({ rustc -vV && gcc --version && cat "$lock" "$0"; } | sha256sum | cut -c1-16)
image=$repository:$tag
if [ -n "$(docker image ls --quiet "$image")" ]; then
    echo "$image"
    exit
fi

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

# Copies files to where they are, or to where a name leads without its links.
place() {
    local path directory
    for path; do
        directory=$stage$(realpath "$(dirname "$path")")
        mkdir -p "$directory"
        cp --dereference --no-clobber "$path" "$directory/"
    done
}

# Copies programs, and the libraries that they load.
install_programs() {
    local libraries
    place "$@"
    mapfile -t libraries < <(ldd "$@" 2>/dev/null | grep -oE '/[^ :]+\.so[^ :]*' | sort -u)
    place "${libraries[@]}"
}

mkdir -p "$stage"/{usr/bin,usr/lib,usr/lib64,usr/local/rust,cargo,etc}
mkdir -m 1777 "$stage/tmp"
ln -s usr/bin usr/lib usr/lib64 "$stage/"

programs=()
for name in sh cat cp mkdir rm touch cc gcc as ld; do
    programs+=("$(command -v "$name")")
done
install_programs "${programs[@]}"

# The linker's driver, and the C library to link with.
gcc_directory=$(dirname "$(gcc -print-libgcc-file-name)")
mapfile -t gcc_files < <(find "$gcc_directory" -maxdepth 1 \( -name '*.a' -o -name '*.o' -o -name '*.so' \))
install_programs "$(gcc -print-prog-name=collect2)" "$(gcc -print-prog-name=lto-wrapper)" \
    "$(gcc -print-file-name=liblto_plugin.so)"
place "${gcc_files[@]}"
mapfile -t c_library < <(dpkg --listfiles libc6 libc6-dev | grep -E '\.(a|o|so|so\.[0-9]+)$')
place "${c_library[@]}"

mkdir -p "$stage/usr/local/rust"/{bin,lib/rustlib}
cp "$sysroot"/bin/{cargo,rustc} "$stage/usr/local/rust/bin/"
cp "$sysroot"/lib/*.so* "$stage/usr/local/rust/lib/"
cp -r "$sysroot/lib/rustlib/$host" "$stage/usr/local/rust/lib/rustlib/"
install_programs "$sysroot"/bin/{cargo,rustc} "$sysroot/lib/rustlib/$host"/bin/gcc-ld/ld.lld
rm -rf "$stage${sysroot:?}"

mkdir "$stage/cargo/registry"
cp -r "$cargo_home"/registry/{cache,index} "$stage/cargo/registry/"

# An older one, and what was built with it, is never used again.
docker system prune --all --force >&2

tar --create --directory "$stage" . | docker import \
    --change 'ENV PATH=/usr/local/rust/bin:/usr/bin' \
    --change 'ENV CARGO_HOME=/cargo' \
    --change 'ENV CARGO_NET_OFFLINE=true' \
    - "$image" >&2
echo "$image"
