#!/busybox sh
# The first process of the guest: mounts the host's files, runs /script in them, says how it ended and powers off.

busybox() { /busybox "$@"; }
fail() { echo "guest: $*"; busybox poweroff -f; }

busybox mkdir -p /proc /host /memory /root
busybox mount -t proc proc /proc || fail "cannot mount /proc"
for module in /modules/*; do
    busybox insmod "$module" || fail "cannot load $module"
done
busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose host /host ||
    fail "cannot mount the host's files"
busybox mount -t tmpfs memory /memory
busybox mkdir /memory/upper /memory/work
busybox mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work root /root ||
    fail "cannot lay memory over the host's files"
busybox mount -t proc proc /root/proc
busybox mount -t sysfs sysfs /root/sys
busybox mount -t devtmpfs dev /root/dev
busybox mount -t tmpfs run /root/run
busybox mount -t bpf bpf /root/sys/fs/bpf || fail "cannot mount /sys/fs/bpf"
busybox ip link set lo up
busybox cp /script /root/run/script
if PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin busybox chroot /root /bin/sh /run/script; then
    echo "guest: passed"
fi
busybox poweroff -f
