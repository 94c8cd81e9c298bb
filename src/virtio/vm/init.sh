#!/bin/busybox sh
# The guest's first process: prepares the system, then serves commands that arrive on one serial line.
#
# The kernel hands unknown parameters on as environment variables: vm_out and vm_err name the two serial
# lines, vm_token is the mark that says we are ready. A request is one line, VERB MARK LENGTH, and LENGTH
# bytes; the answer is whatever the command writes, then "MARK STATUS" on both lines. A long command comes
# in pieces, all but the last by "append".

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux

mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
ip link set lo up 2>/dev/null

fail() {
    echo "pyvirtio-init: $*" >/dev/console
    poweroff -f
}

while read -r module; do
    insmod "/lib/modules/$(uname -r)/$module" || fail "cannot load the kernel module $module"
done </etc/modules-boot

raw() { stty -F "/dev/$1" raw -echo; }

raw "$vm_out" || fail "no serial line $vm_out"
raw "$vm_err" || fail "no serial line $vm_err"
exec 3<>"/dev/$vm_out" 4>"/dev/$vm_err"

append() {
    head -c "$2" <&3 >>/run/request
    finish "$1" $?
}

run() {
    head -c "$2" <&3 >>/run/request
    mv /run/request /run/command
    env -u vm_out -u vm_err -u vm_token sh /run/command </dev/null >&3 2>&4 3>&- 4>&-
    finish "$1" $?
}

shell() {
    stty -F "/dev/$vm_out" sane rows "$2" cols "$3"
    # A session leader without a terminal takes the one it opens first.
    setsid sh -c "exec env -u vm_out -u vm_err -u vm_token sh -i <>/dev/$vm_out >&0 2>&1 3>&- 4>&-"
    status=$?
    # With its session the kernel hung up the terminal, for us too.
    raw "$vm_out"
    exec 3<>"/dev/$vm_out"
    finish "$1" $status
}

finish() {
    printf '%s %s\n' "$1" "$2" >&3
    printf '%s %s\n' "$1" "$2" >&4
}

finish "$vm_token" 0
while read -r verb mark length columns <&3; do
    case $verb in
        append) append "$mark" "$length" ;;
        run) run "$mark" "$length" ;;
        shell) shell "$mark" "$length" "$columns" ;;
        reboot) sync; reboot -f ;;
        poweroff) break ;;
    esac
done
cd /
sync
umount -a -r 2>/dev/null
poweroff -f
