# The guest: what it is made of, how it boots, how it is talked to. Sourced by `run`, which sets ROOT, CACHE, RUN_DIRECTORY,
# NIC, DRIVER, QUEUES, SWITCHES, PROGRAMS and CONSOLE.
# shellcheck shell=bash

KERNEL_PACKAGE=linux-image-amd64
# DPDK's own name for the place where it looks for its drivers; every one that is there is loaded, so the guest gets few.
DPDK_DRIVERS="librte_bus_pci librte_bus_vdev librte_mempool_ring librte_net_e1000 librte_net_virtio"
MODULES="vfio-pci vfio_iommu_type1 uio_pci_generic tun"
declare -A CARDS=([outside]=0000:00:04.0 [inside]=0000:00:05.0)
# Emulation is slow: several minutes for a run are normal.
WATCHDOG_S=900
ANSWER_LIMIT_S=120

require_packages() {
    command -v qemu-system-x86_64 >/dev/null || fail "there is no QEMU: apt-get install --no-install-recommends qemu-system-x86"
    pkg-config --exists libdpdk || fail "there is no DPDK: apt-get install --no-install-recommends libdpdk-dev"
}

# unpack PACKAGE: puts its files into the cache, and installs nothing.
unpack() {
    local package=$1
    [[ ! -e $CACHE/unpacked/$package ]] || return 0
    mkdir -p "$CACHE/files" "$CACHE/unpacked"
    echo "Fetching $package"
    # It runs as root; the cache need not be readable for apt's own user.
    (cd "$CACHE" && apt-get -o APT::Sandbox::User=root -qq download "$package" && dpkg-deb -x "$package"_*.deb files && rm "$package"_*.deb) ||
        fail "could not fetch the Debian package $package (apt-get update?)"
    touch "$CACHE/unpacked/$package"
}

fetch() {
    local kernel
    # Once it is here, apt is not asked again.
    if [[ ! -e $CACHE/kernel ]]; then
        kernel=$(apt-cache depends $KERNEL_PACKAGE | awk '/Depends: linux-image/ {print $2}')
        [[ -n $kernel ]] || fail "apt does not know $KERNEL_PACKAGE (apt-get update?)"
        unpack "$kernel"
        echo "${kernel#linux-image-}" >"$CACHE/kernel"
    fi
    KERNEL=$(<"$CACHE/kernel")
    unpack busybox-static
    [[ $PROGRAMS != *testpmd* ]] || unpack dpdk-dev
    BUSYBOX=$CACHE/files/bin/busybox
}

# A root file system in memory: busybox, the kernel's modules, DPDK's drivers, the programs, and the libraries of all these.
make_initramfs() {
    local root=$RUN_DIRECTORY/root plugins applet name file
    # Their folder carries the version of DPDK's ABI in its name.
    plugins=$(echo "$(pkg-config --variable=libdir libdpdk)"/dpdk/pmds-*)
    mkdir -p "$root"/{bin,dev,proc,sys,run,tmp,etc,var}
    ln -s /run "$root/var/run"
    echo root:x:0: >"$root/etc/group"
    for applet in $("$BUSYBOX" --list); do ln -s busybox "$root/bin/$applet"; done
    cp --remove-destination "$BUSYBOX" "$root/bin/busybox"
    cp "$LAB_DIRECTORY/qemu/init" "$root/init"
    copy_modules "$root"
    for name in $DPDK_DRIVERS; do
        for file in "$plugins/$name".so*; do add_with_libraries "$file" "$root"; done
    done
    for file in $PROGRAMS; do
        add_with_libraries "$file" "$root"
        mv "$root$file" "$root/bin/"
        strip "$root/bin/${file##*/}"
    done
    configuration >"$root/etc/ulvs.toml"
    # Not compressed: emulated, that would cost more than it saves.
    (cd "$root" && find . | "$BUSYBOX" cpio --quiet -o -H newc) >"$RUN_DIRECTORY/initramfs"
    rm -rf "$root"
}

# The demo's, on DPDK and the guest's cards; or the given one as it is.
configuration() {
    local -a edits=(-e 's/^backend = .*/backend = "dpdk"/' -e "s/^workers = .*/workers = $QUEUES/" -e '/^control_socket/d')
    edits+=(-e "s/^interface = \"outside\"/device = \"${CARDS[outside]}\"/" -e "s/^interface = \"inside\"/device = \"${CARDS[inside]}\"/")
    if [[ -n $CONFIG ]]; then cat "$CONFIG"; else sed "${edits[@]}" "$LAB_DIRECTORY/config/demo.toml"; fi
}

copy_modules() {
    local root=$1 folder=$CACHE/files/lib/modules/$KERNEL name file
    # The package's list of dependencies is made when it is installed, which it is not.
    [[ -e $folder/modules.dep ]] || "$BUSYBOX" depmod -b "$CACHE/files" "$KERNEL"
    mkdir -p "$root/lib/modules/$KERNEL"
    for name in $MODULES; do
        # "path: path path": the module, and what it depends on.
        for file in $(sed -nE "s@^([^ ]*/)?${name//[-_]/[-_]}\.ko:@\1$name.ko@p" "$folder/modules.dep"); do
            (cd "$folder" && cp --parents "${file#/lib/modules/"$KERNEL"/}" "$root/lib/modules/$KERNEL/")
        done
    done
    "$BUSYBOX" depmod -b "$root" "$KERNEL"
}

# add_with_libraries FILE ROOT: the file and the shared libraries it needs, at the same places as here. Links stay links: DPDK
# must not load one driver under two names.
add_with_libraries() {
    local file target
    for file in "$1" $(ldd "$1" 2>/dev/null | grep -oE '/[^ ]+'); do
        target=$(readlink -f "$file")
        [[ -e $2$target ]] || install -D "$target" "$2$target"
        [[ -e $2$file ]] || { mkdir -p "$2${file%/*}" && ln -s "$target" "$2$file"; }
    done
}

# The cards that the guest sees, as arguments for QEMU.
card_arguments() {
    local side options=""
    case $NIC in
        # Two interrupt vectors for each pair of queues, one for the configuration, one for the control queue.
        virtio) options=",mq=on,rss=on,vectors=$((2 * QUEUES + 2))$([[ $DRIVER != vfio-pci ]] || echo ,iommu_platform=on,disable-legacy=on)" ;;
    esac
    for side in outside inside; do
        echo "-netdev tap,id=$side,ifname=guest-$side,script=no,downscript=no,queues=$QUEUES"
        echo "-device ${NIC/virtio/virtio-net-pci},id=card-$side,netdev=$side,addr=${CARDS[$side]:8:2},mac=${MACS[$side]}$options"
    done
}

boot() {
    local iommu="" command_line
    # uio has no notion of an IOMMU; with an emulated one in the way, a card would reach no memory.
    [[ $DRIVER != vfio-pci ]] || iommu="-device intel-iommu,intremap=off"
    command_line="console=ttyS0 panic=-1 quiet intel_iommu=on hugepages=320"
    command_line+=" ulvs.driver=$DRIVER ulvs.cards=${CARDS[outside]},${CARDS[inside]}"
    mkfifo "$RUN_DIRECTORY"/{command,monitor}.{in,out}
    # Open for reading and writing, so that neither side waits for the other to open it.
    exec {COMMAND}<>"$RUN_DIRECTORY/command.in" {ANSWER}<>"$RUN_DIRECTORY/command.out"
    exec {MONITOR}<>"$RUN_DIRECTORY/monitor.in" {MONITOR_ANSWER}<>"$RUN_DIRECTORY/monitor.out"
    # shellcheck disable=SC2046,SC2086 # Arguments, not one argument.
    ip netns exec "ulvs-$NAME-director" timeout --signal=KILL $WATCHDOG_S qemu-system-x86_64 \
        -machine q35 -accel tcg -cpu max -smp "$CPUS" -m 2048 -nodefaults -no-user-config -display none -no-reboot \
        -kernel "$CACHE/files/boot/vmlinuz-$KERNEL" -initrd "$RUN_DIRECTORY/initramfs" -append "$command_line" \
        -serial "file:$CONSOLE" -chardev "pipe,id=command,path=$RUN_DIRECTORY/command" -serial chardev:command \
        -chardev "pipe,id=monitor,path=$RUN_DIRECTORY/monitor" -mon chardev=monitor,mode=readline \
        $iommu $(card_arguments) </dev/null >"$RUN_DIRECTORY/qemu.log" 2>&1 &
    QEMU=$!
    # How it ends is for clean_up and power_off to see, not for the shell to report.
    disown
    answer || fail "the guest did not boot; its console: $CONSOLE"
    ! grep 'is not bound' "$CONSOLE" || fail "the guest could not give its cards to $DRIVER; its console: $CONSOLE"
}

# guest COMMAND…: has the guest's shell run a command line; prints what it prints, returns its status.
guest() {
    printf '%s\n' "$*" >&"$COMMAND"
    answer
}

# Reads what the guest prints until the line with the status.
answer() {
    local line begun="" waited_s=0
    while kill -0 "$QEMU" 2>/dev/null && ((waited_s < ANSWER_LIMIT_S)); do
        if ! IFS= read -r -t 1 line <&"$ANSWER"; then
            # What has come of the line so far.
            begun+=$line
            ((++waited_s))
            continue
        fi
        line=$begun${line%$'\r'} begun=""
        [[ $line != "=== "* ]] || return "${line#=== }"
        printf '%s\n' "$line"
    done
    echo "the guest has ended, or does not answer" >&2
    return 1
}

# monitor COMMAND…: to QEMU itself.
monitor() {
    printf '%s\n' "$*" >&"$MONITOR"
    while IFS= read -r -t 0.2 <&"$MONITOR_ANSWER"; do :; done
}

power_off() {
    [[ -n ${QEMU:-} ]] && kill -0 "$QEMU" 2>/dev/null || return 0
    printf 'poweroff -f\n' >&"$COMMAND"
    local attempts=0
    while kill -0 "$QEMU" 2>/dev/null && ((++attempts < 300)); do sleep 0.1; done
    ! kill -0 "$QEMU" 2>/dev/null
}
